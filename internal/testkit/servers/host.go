package servers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Host is where a server runs and listens. The zero Host is this machine's loopback. A network
// namespace is entered with "ip netns exec", as root on Linux. Who starts a server there must be
// able to reach its address.
type Host struct {
	Namespace string // as "ip netns" knows it; empty is our own
	Address   string // empty is 127.0.0.1
}

func (h Host) address() string {
	if h.Address == "" {
		return "127.0.0.1"
	}
	return h.Address
}

// command returns what runs a program on this host. "ip" becomes the program, so the process id stays the same.
func (h Host) command(program string, args []string) (string, []string) {
	if h.Namespace == "" {
		return program, args
	}
	return "ip", append([]string{"netns", "exec", h.Namespace, program}, args...)
}

// open lets other hosts talk to a Redis that has no password.
func (h Host) open() []string {
	if h.Namespace == "" {
		return nil
	}
	return []string{"--protected-mode", "no"}
}

// Watched is the master that a Sentinel watches.
type Watched struct {
	Name     string        // of the master, among sentinels
	Master   string        // its host:port when the sentinel starts
	Quorum   int           // how many sentinels must miss it
	Failover time.Duration // what a failover may take
}

// Sentinel starts a Redis Sentinel on this host. It takes a master for dead after a second.
func (h Host) Sentinel(ctx context.Context, w Watched) (*Server, error) {
	program, err := FindRedis()
	if err != nil {
		return nil, err
	}
	return launch(ctx, recipe{
		kind: "sentinel", host: h,
		prepare: func(_ context.Context, s *Server) error { return w.write(s.sentinelFile()) },
		command: func(s *Server) (string, []string) {
			args := []string{s.sentinelFile(), "--sentinel",
				"--bind", h.address(), "--port", strconv.Itoa(s.port), "--dir", s.dir}
			return program, append(args, h.open()...)
		},
		ready:    redisReady,
		quit:     syscall.SIGTERM,
		orphaned: syscall.SIGKILL,
	})
}

func (s *Server) sentinelFile() string { return filepath.Join(s.dir, "sentinel.conf") }

// write makes a configuration, which the sentinel itself changes later.
func (w Watched) write(path string) error {
	host, port, _ := strings.Cut(w.Master, ":")
	text := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s %[4]d\n"+
		"sentinel down-after-milliseconds %[1]s 1000\nsentinel failover-timeout %[1]s %[5]d\n"+
		"sentinel parallel-syncs %[1]s 2\n", w.Name, host, port, w.Quorum, w.Failover.Milliseconds())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("configure the sentinel: %w", err)
	}
	return nil
}
