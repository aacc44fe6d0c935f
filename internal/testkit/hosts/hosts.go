// Package hosts makes a small network of hosts on one Linux machine, whose links a test cuts, joins and slows.
package hosts

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/testkit/servers"
)

// ErrNoNetem says that this kernel cannot hold packets back.
var ErrNoNetem = errors.New("the kernel has no netem: links can be cut here, not delayed")

// Network is a few hosts on this machine. They are network namespaces of Linux, and each two are
// joined by a link of their own. Nothing of it can be reached from outside, nor reaches anything
// there. Its methods may be called from any goroutine, but not two at once about one link.
type Network struct {
	prefix string // of the namespaces
	hosts  []string
}

// Obstacle says why this process cannot make a Network; empty is none.
func Obstacle() string {
	switch {
	case runtime.GOOS != "linux":
		return "network namespaces need Linux, this is " + runtime.GOOS
	case os.Geteuid() != 0:
		return "network namespaces need root"
	}
	return ""
}

// New makes hosts and their links. They are gone when the test ends,
// with whatever happened to it.
func New(t testing.TB, hosts ...string) *Network {
	t.Helper()
	sweep()
	n := &Network{prefix: fmt.Sprintf("sluice-%d-%s-", os.Getpid(), strings.ToLower(rand.Text()[:4])), hosts: hosts}
	t.Cleanup(func() {
		for _, host := range n.hosts {
			if err := ip("", "netns", "delete", n.namespace(host)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, host := range hosts {
		if err := ip("", "netns", "add", n.namespace(host)); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range hosts {
		for _, b := range hosts[i+1:] {
			if err := ip("", "link", "add", "to-"+b, "netns", n.namespace(a), "type", "veth",
				"peer", "name", "to-"+a, "netns", n.namespace(b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, host := range hosts {
		if err := n.configure(host); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// sweep removes what processes left that were killed before they could.
func sweep() {
	there, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none has ever been made here
	}
	for _, namespace := range there {
		var pid int
		_, err := fmt.Sscanf(namespace.Name(), "sluice-%d-", &pid)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = ip("", "netns", "delete", namespace.Name())
		}
	}
}

// configure gives a host its address and its way to each other host.
func (n *Network) configure(host string) error {
	lines := []string{"link set lo up", "address add " + n.Address(host) + "/32 dev lo"}
	for _, other := range n.hosts {
		if other != host {
			lines = append(lines, "link set to-"+other+" up", n.route(host, other))
		}
	}
	return ip(strings.Join(lines, "\n"), "-netns", n.namespace(host), "-batch", "-")
}

func (n *Network) route(from, to string) string {
	return fmt.Sprintf("route replace %s/32 dev to-%s src %s", n.Address(to), to, n.Address(from))
}

// String names the network for Join.
func (n *Network) String() string { return n.prefix + " " + strings.Join(n.hosts, " ") }

// Join returns the network that another process has made and takes away.
func Join(text string) *Network {
	fields := strings.Fields(text)
	return &Network{prefix: fields[0], hosts: fields[1:]}
}

func (n *Network) namespace(host string) string { return n.prefix + host }

// Address returns the one address of a host.
func (n *Network) Address(host string) string {
	return fmt.Sprintf("10.77.0.%d", 10+slices.Index(n.hosts, host))
}

// Host returns what a server must know to run on a host.
func (n *Network) Host(host string) servers.Host {
	return servers.Host{Namespace: n.namespace(host), Address: n.Address(host)}
}

// Command returns the command line that runs a program on a host. The process id stays the same.
func (n *Network) Command(host, program string, args ...string) []string {
	return append([]string{"ip", "netns", "exec", n.namespace(host), program}, args...)
}

// Cut takes the link of two hosts down at b's end. b learns at once that there is no way; a only
// hears nothing any more.
func (n *Network) Cut(a, b string) error {
	return ip("", "-netns", n.namespace(b), "link", "set", "to-"+a, "down")
}

// Join brings the link of two hosts up again.
func (n *Network) Join(a, b string) error {
	return errors.Join(
		ip("link set to-"+a+" up\n"+n.route(b, a), "-netns", n.namespace(b), "-batch", "-"),
		ip("link set to-"+b+" up\n"+n.route(a, b), "-netns", n.namespace(a), "-batch", "-"))
}

// Part cuts every link between two groups of hosts.
func (n *Network) Part(left, right []string) error { return each(left, right, n.Cut) }

// Unite joins every link between two groups of hosts.
func (n *Network) Unite(left, right []string) error { return each(left, right, n.Join) }

func each(left, right []string, do func(a, b string) error) error {
	var errs []error
	for _, a := range left {
		for _, b := range right {
			errs = append(errs, do(a, b))
		}
	}
	return errors.Join(errs...)
}

// Delay holds back what a sends to b by a time as "tc" writes it, such as
// "40ms". It wraps ErrNoNetem where that cannot be done.
func (n *Network) Delay(a, b, by string) error {
	// #nosec G204 -- names written here
	cmd := exec.Command("tc", "-netns", n.namespace(a), "qdisc", "replace", "dev", "to-"+b, "root", "netem", "delay",
		by)
	out, err := cmd.CombinedOutput()
	if err != nil && bytes.Contains(out, []byte("kind is unknown")) {
		return fmt.Errorf("%w (%s)", ErrNoNetem, bytes.TrimSpace(out))
	}
	if err != nil {
		return fmt.Errorf("delay %s to %s: %w: %s", a, b, err, out)
	}
	return nil
}

// Hasten undoes Delay.
func (n *Network) Hasten(a, b string) error {
	// #nosec G204 -- names written here
	cmd := exec.Command("tc", "-netns", n.namespace(a), "qdisc", "delete", "dev", "to-"+b, "root")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("delay %s to %s no more: %w: %s", a, b, err, out)
	}
	return nil
}

// ip runs iproute2's program with a text to read.
func ip(stdin string, args ...string) error {
	cmd := exec.Command("ip", args...) // #nosec G204 -- names written here
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out), stdin)
	}
	return nil
}
