package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/internal/testkit/servers"
)

// need is something the tests use, the Debian packages that bring it, and how
// to tell that it is there.
type need struct {
	name     string
	packages []string
	present  func() bool
}

// installer brings in what is missing.
type installer struct {
	needs  []need
	may    bool   // is this Debian, and are we root?
	policy string // where Debian asks whether a package may start its service
	apt    func(ctx context.Context, args ...string) error
	out    io.Writer
}

func newInstaller(out io.Writer) *installer {
	found := func(err error) bool { return err == nil }
	_, noApt := exec.LookPath("apt-get")
	return &installer{
		needs: []need{ // Redis first: it may be all that is wanted
			{"redis-server", []string{"redis-server"}, func() bool {
				_, err := servers.FindRedis()
				return found(err)
			}},
			{"MariaDB", []string{"mariadb-server"}, func() bool {
				_, _, err := servers.FindMySQL()
				return found(err)
			}},
			{"PostgreSQL", []string{"postgresql"}, func() bool {
				_, _, err := servers.FindPostgres()
				return found(err)
			}},
			{"PgBouncer", []string{"pgbouncer"}, func() bool {
				_, err := servers.FindPgBouncer()
				return found(err)
			}},
			{"promtool", []string{"prometheus"}, func() bool {
				_, err := exec.LookPath("promtool")
				return found(err)
			}},
			{"spin", []string{"spin"}, func() bool {
				_, err := exec.LookPath("spin")
				return found(err)
			}},
			{"ip, for partitions between hosts", []string{"iproute2"}, func() bool {
				_, err := exec.LookPath("ip")
				return found(err) || runtime.GOOS != "linux"
			}},
			{"Python, for an example", []string{"python3"}, func() bool {
				_, err := exec.LookPath("python3")
				return found(err)
			}},
			{"PHP, for an example", []string{"php-cli"}, func() bool {
				_, err := exec.LookPath("php")
				return found(err)
			}},
			{"a C compiler for the race detector", []string{"gcc", "libc6-dev"}, compiles},
		},
		may:    os.Geteuid() == 0 && found(noApt),
		policy: "/usr/sbin/policy-rc.d",
		apt:    func(ctx context.Context, args ...string) error { return aptGet(ctx, out, args...) },
		out:    out,
	}
}

// compiles reports whether there is a C compiler that finds the C library's headers.
func compiles() bool {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	words := strings.Fields(cc)
	args := append(words[1:], "-E", "-xc", "-include", "stdlib.h", os.DevNull)
	return exec.Command(words[0], args...).Run() == nil // #nosec G204 -- words written here
}

// ensure returns nil once everything needed is there.
func (i *installer) ensure(ctx context.Context) error {
	missing, packages := i.missing()
	if len(missing) == 0 {
		return nil
	}
	if !i.may {
		return fmt.Errorf("not installed: %s. On Debian or Ubuntu, as root:\n"+
			"    apt-get update && apt-get install --no-install-recommends %s\n"+
			"On macOS:\n    xcode-select --install; "+
			"brew install redis mariadb postgresql@17 pgbouncer prometheus spin python php",
			strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	fmt.Fprintf(i.out, "withstores: installing %s with apt-get\n", strings.Join(packages, " "))
	if err := i.install(ctx, packages); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(packages, " "), err)
	}
	if missing, _ := i.missing(); len(missing) > 0 {
		return fmt.Errorf("still not found after installing %s: %s",
			strings.Join(packages, " "), strings.Join(missing, ", "))
	}
	return nil
}

func (i *installer) missing() (names, packages []string) {
	for _, n := range i.needs {
		if !n.present() {
			names = append(names, n.name)
			packages = append(packages, n.packages...)
		}
	}
	return names, packages
}

// install installs packages without starting the services they bring.
func (i *installer) install(ctx context.Context, packages []string) (err error) {
	restore, err := i.forbidServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	if err := i.apt(ctx, "update"); err != nil {
		return err
	}
	return i.apt(ctx, slices.Concat([]string{"install", "--yes", "--no-install-recommends"}, packages)...)
}

// forbidServices answers "no" to every package that wants to start its
// service. The returned function puts back what was there before.
func (i *installer) forbidServices() (restore func() error, err error) {
	before, err := os.ReadFile(i.policy)
	existed := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keep services from starting: %w", err)
	}
	mode := os.FileMode(0o755)
	if info, err := os.Stat(i.policy); err == nil {
		mode = info.Mode().Perm()
	}
	put := func(text []byte, mode os.FileMode) error {
		if err := os.WriteFile(i.policy, text, mode); err != nil {
			return err
		}
		return os.Chmod(i.policy, mode) // WriteFile leaves an existing file's mode alone
	}
	if err := put([]byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return nil, fmt.Errorf("keep services from starting: %w", err)
	}
	return func() error {
		if !existed {
			return os.Remove(i.policy)
		}
		return put(before, mode)
	}, nil
}

// aptGet runs apt-get without questions. An interrupt lets it end in order.
func aptGet(ctx context.Context, out io.Writer, args ...string) error {
	// #nosec G204 -- names of packages, written here
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet=2"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
