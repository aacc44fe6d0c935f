package redis

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// logBuffer collects the output of a test's logger.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newTestLog() (*slog.Logger, *logBuffer) {
	b := &logBuffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}

func freeAddr(t *testing.T) (addr, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return l.Addr().String(), port
}

// runRedis starts a redis-server on a free port of 127.0.0.1 with more arguments. It ends with the test.
func runRedis(t *testing.T, args ...string) string {
	t.Helper()
	addr, port := freeAddr(t)
	dir := t.TempDir()
	args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir}, args...)
	startServerProcess(t, dir, args)
	awaitTCP(t, addr)
	return addr
}

func startServerProcess(t *testing.T, dir string, args []string) {
	t.Helper()
	out, err := os.Create(filepath.Join(dir, "server.log"))
	require.NoError(t, err)
	cmd := exec.Command("redis-server", args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, childAttr()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
}

func awaitTCP(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	}, 10*time.Second, 10*time.Millisecond, "nothing listens on %s", addr)
}

func singleConfig(addr string) Config {
	cfg := DefaultConfig()
	cfg.Mode, cfg.Addrs = ModeSingle, []string{addr}
	return cfg
}

// shortDir returns a folder whose path is short enough for a socket in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func managedConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.Mode, cfg.Dir = ModeManaged, dir
	return cfg
}

func openRedis(t *testing.T, cfg Config) *Store {
	t.Helper()
	log, _ := newTestLog()
	r, err := Open(t.Context(), cfg, log)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Client.Close() })
	return r
}

func refuseRedis(t *testing.T, cfg Config, want ...string) {
	t.Helper()
	log, _ := newTestLog()
	r, err := Open(t.Context(), cfg, log)
	require.Nil(t, r)
	require.Error(t, err)
	for _, part := range want {
		require.ErrorContains(t, err, part)
	}
}

func do(t *testing.T, addr string, args ...any) {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: addr})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.Do(context.Background(), args...).Err(), strings.TrimSpace(addr))
}
