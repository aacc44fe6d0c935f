// Command withstores runs a command with real stores at hand.
//
//	go run ./internal/testkit/withstores -- go test ./...
//
// It installs the Debian packages that are missing when it runs as root. Otherwise it says what to
// install and stops. It starts one private MariaDB and one private PostgreSQL in a temporary folder
// on free ports. It tells the command their addresses in SLUICE_TEST_MYSQL_DSN and
// SLUICE_TEST_POSTGRES_DSN, and gives it TMPDIR inside that folder. A variable that is set already
// is left alone. However the command ends, the servers are stopped and the folder is removed. The
// exit code is the command's, 1 if it could not be run, 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	go watchParent(ctx, os.Getppid, time.Second, signals)
	code := run(ctx, os.Args[1:], signals, os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// run does all that the program does and returns the exit code.
func run(ctx context.Context, args []string, signals <-chan os.Signal, out, errOut io.Writer) int {
	redisOnly := len(args) > 0 && args[0] == "--redis"
	if redisOnly {
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(errOut, "usage: withstores [--redis] -- COMMAND [ARGUMENT...]")
		return 2
	}
	stores, installer := &stores{out: out, kinds: kinds()}, newInstaller(out)
	if redisOnly {
		stores.kinds, installer.needs = nil, installer.needs[:1]
	}
	cmd := exec.Command(args[0], args[1:]...) // #nosec G204 -- the command it was started for
	cmd.Stdout, cmd.Stderr = out, errOut
	code, err := withStores(ctx, stores, installer, cmd, signals)
	if err != nil {
		fmt.Fprintln(errOut, "withstores:", err)
		code = max(code, 1)
	}
	return code
}

// withStores prepares what the command needs, runs it and clears up.
func withStores(ctx context.Context, stores *stores, installer *installer, cmd *exec.Cmd,
	signals <-chan os.Signal) (code int, err error) {
	var env []string
	// A signal that comes before the command runs ends the preparations.
	prepare, cancel := context.WithCancel(ctx)
	defer cancel()
	prepared := make(chan struct{})
	early := make(chan os.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			early <- s
			cancel()
		case <-prepared:
		}
		close(early)
	}()

	defer func() { err = errors.Join(err, stores.close()) }()
	if err = installer.ensure(prepare); err == nil {
		env, err = stores.start(prepare)
	}
	close(prepared)
	if s, stopped := <-early; stopped {
		return 1, fmt.Errorf("%s before the command was started", s)
	}
	if err != nil {
		return 1, err
	}
	cmd.Env = append(os.Environ(), env...)
	return runCommand(cmd, signals, cmd.Stdout)
}

// watchParent reports the death of whoever started us as a SIGTERM. "go run"
// does not pass that signal on, and without it we would run on unseen.
func watchParent(ctx context.Context, parent func() int, every time.Duration, signals chan<- os.Signal) {
	first := parent()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if parent() != first {
				signals <- syscall.SIGTERM
				return
			}
		}
	}
}
