package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counter answers each line with "n:<line>" and counts the lines it got.
type counter struct {
	addr string
	got  atomic.Int64
}

func startCounter(t *testing.T) *counter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &counter{addr: listener.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					fmt.Fprintf(conn, "%d:%s\n", c.got.Add(1), lines.Text())
				}
			})
		}
	})
	// Registered before the proxy's own clean-up, so it runs after it.
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		wg.Wait()
	})
	return c
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends one line and reads one, for at most patience.
func ask(conn net.Conn, line string, patience time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

const (
	long  = 10 * time.Second
	short = 50 * time.Millisecond
)

func TestProxyCutsAndHeals(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startCounter(t).addr)
	conn := dial(t, p)
	reply, err := ask(conn, "a", long)
	require.NoError(t, err)
	require.Equal(t, "1:a\n", reply)

	p.Cut()
	p.Cut()
	_, err = ask(conn, "b", long)
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "broken, not merely silent")
	_, err = net.Dial("tcp", p.Addr())
	require.Error(t, err)

	require.NoError(t, p.Heal())
	require.NoError(t, p.Heal())
	reply, err = ask(dial(t, p), "c", long)
	require.NoError(t, err)
	require.Contains(t, reply, ":c")
}

// Between its fork and its exec a child holds copies of all sockets.
func TestProxyIsCutWhileProcessesStart(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startCounter(t).addr)
	var starting sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		starting.Go(func() {
			for ctx.Err() == nil {
				_ = exec.CommandContext(ctx, "true").Run() // #nosec G204 -- a constant
			}
		})
	}
	defer starting.Wait()
	defer stop()
	for range 200 {
		p.Cut()
		_, err := net.Dial("tcp", p.Addr())
		require.Error(t, err)
		require.NoError(t, p.Heal())
	}
}

func TestProxyPausesAndResumes(t *testing.T) {
	t.Parallel()
	c := startCounter(t)
	p := NewProxy(t, c.addr)
	conn := dial(t, p)
	p.Pause()
	_, err := ask(conn, "held", short)
	require.Error(t, err)
	require.Zero(t, c.got.Load())
	p.Resume()
	require.NoError(t, conn.SetDeadline(time.Now().Add(long)))
	reply, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "1:held\n", reply)
}

func TestProxyDropsReplies(t *testing.T) {
	t.Parallel()
	c := startCounter(t)
	p := NewProxy(t, c.addr)
	conn := dial(t, p)
	p.DropReplies(true)
	_, err := ask(conn, "unseen", short)
	require.Error(t, err)
	require.Eventually(t, func() bool { return c.got.Load() == 1 }, long, time.Millisecond, "the server acts")

	p.DropReplies(false)
	reply, err := ask(dial(t, p), "seen", long)
	require.NoError(t, err)
	require.Equal(t, "2:seen\n", reply)
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startCounter(t).addr)
	conn := dial(t, p)
	p.Delay(30 * time.Millisecond)
	start := time.Now()
	_, err := ask(conn, "slow", long)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), 60*time.Millisecond)
	p.Delay(time.Hour)
	_, err = ask(conn, "very slow", short)
	require.Error(t, err)
	p.Close() // does not wait for the hour
	require.Error(t, p.Heal())
}

func TestProxyPassesOnAnOrderlyEnd(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startCounter(t).addr)
	conn := dial(t, p)
	_, err := io.WriteString(conn, "last\n")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	require.NoError(t, conn.SetDeadline(time.Now().Add(long)))
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "1:last\n", string(all))
}

func TestProxyIsBounded(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startCounter(t).addr)
	p.Pause()
	for range proxyConnections {
		dial(t, p)
	}
	held := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.links)
	}
	require.Eventually(t, func() bool { return held() == proxyConnections }, long, time.Millisecond)
	_, err := ask(dial(t, p), "one too many", long)
	require.Error(t, err)
	require.Equal(t, proxyConnections, held())
}

func TestProxyBeforeADeadServerBreaksConnections(t *testing.T) {
	t.Parallel()
	server := Redis(t)
	p := NewProxy(t, server.Addr())
	client := RedisClient(t, p.Addr())
	require.NoError(t, client.Ping(t.Context()).Err())
	server.Kill()
	require.Error(t, client.Ping(t.Context()).Err())
	server.Start()
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestAProxyIsRedirected(t *testing.T) {
	t.Parallel()
	one, two := Redis(t), Redis(t)
	p := NewProxy(t, one.Addr())
	client := RedisClient(t, p.Addr())
	require.NoError(t, client.Set(t.Context(), "k", "one", 0).Err())
	require.NoError(t, two.Client().Set(t.Context(), "k", "two", 0).Err())
	p.Redirect(two.Addr())
	require.Eventually(t, func() bool { return client.Get(t.Context(), "k").Val() == "two" }, long, short)
}
