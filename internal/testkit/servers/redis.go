package servers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Redis starts a redis-server that writes each command to disk before it
// answers. Extra arguments, such as "--maxmemory", "2mb", come last and win.
func Redis(ctx context.Context, extra ...string) (*Server, error) {
	return Host{}.Redis(ctx, extra...)
}

// Redis does on this host what the function of that name does.
func (h Host) Redis(ctx context.Context, extra ...string) (*Server, error) {
	return h.launchRedis(ctx, "redis", func(int) []string { return extra })
}

// RedisWith does what Redis does, with arguments that may depend on the port. Messages call the server kind.
func RedisWith(ctx context.Context, kind string, extra func(port int) []string) (*Server, error) {
	return Host{}.launchRedis(ctx, kind, extra)
}

func (h Host) launchRedis(ctx context.Context, kind string, extra func(port int) []string) (*Server, error) {
	program, err := FindRedis()
	if err != nil {
		return nil, err
	}
	return launch(ctx, recipe{
		kind: kind, host: h,
		command: func(s *Server) (string, []string) {
			args := []string{
				"--bind", h.address(), "--port", strconv.Itoa(s.port), "--dir", s.dir,
				"--appendonly", "yes", "--appendfsync", "always", "--save", "",
				"--maxmemory-policy", "noeviction", "--daemonize", "no",
			}
			return program, slices.Concat(args, h.open(), extra(s.port))
		},
		ready:    redisReady,
		quit:     syscall.SIGTERM,
		orphaned: syscall.SIGKILL,
	})
}

// redisReady asks for the process id. So a stranger on our port is not taken for our server. A
// server still loading its file is not ready.
func redisReady(ctx context.Context, s *Server) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "PING\r\nINFO server\r\n"); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || !(lines.Text() == "+PONG" || strings.HasPrefix(lines.Text(), "-NOAUTH")) {
		return fmt.Errorf("answered %q to PING: %w", lines.Text(), lines.Err())
	}
	if strings.HasPrefix(lines.Text(), "-NOAUTH") {
		return nil // it was given a password; that it asks for one is an answer
	}
	want := fmt.Sprintf("process_id:%d", s.proc.pid)
	for lines.Scan() {
		if text := lines.Text(); strings.HasPrefix(text, "process_id:") {
			if text != want {
				return fmt.Errorf("another server answers: %s, want %s", text, want)
			}
			return nil
		}
	}
	return fmt.Errorf("no process_id in INFO: %w", lines.Err())
}
