package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/app"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

const tailPatience = 60 * time.Second

// follower is a command that runs until it is interrupted.
type follower struct {
	t         *testing.T
	out, err  *shop.WatchedLog
	interrupt context.CancelFunc
	code      chan int
}

// follow starts a command line in this process.
func follow(t *testing.T, env []string, args ...string) *follower {
	t.Helper()
	ctx, interrupt := context.WithCancel(context.WithoutCancel(t.Context()))
	f := &follower{t: t, out: &shop.WatchedLog{}, err: &shop.WatchedLog{}, interrupt: interrupt,
		code: make(chan int, 1)}
	go func() {
		f.code <- Run(ctx, Process{Version: "dev", Args: args, Env: env, Out: f.out, Err: f.err})
	}()
	t.Cleanup(f.interrupt)
	return f
}

func (f *follower) prints(want string) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return strings.Contains(f.out.String(), want) }, tailPatience,
		5*time.Millisecond, "never printed %q; errors: %s", want, f.err)
}

// ends interrupts the command, and returns its exit code.
func (f *follower) ends() int {
	f.t.Helper()
	f.interrupt()
	select {
	case code := <-f.code:
		return code
	case <-time.After(tailPatience):
		require.Fail(f.t, "the command does not end")
		return -1
	}
}

// buy places an order and returns its id.
func buy(t *testing.T, a *app.App, sale string, n int) string {
	t.Helper()
	resp, err := http.DefaultClient.Do(shop.Order(t, a.Addr(), sale, n))
	require.NoError(t, err)
	defer resp.Body.Close()
	var placed api.Order
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&placed))
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	return placed.OrderID
}

// TestTailGoesOnAfterALostConnection follows a real sale through a network that breaks. Each event is printed, in one
// line of the documented form, and an interrupt is the good end.
func TestTailGoesOnAfterALostConnection(t *testing.T) {
	t.Parallel()
	a := startApp(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()), app.AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 9}, a)
	openSale(t, inventory.NewSale{ID: "flash-1", Stock: 9}, a)
	proxy := testkit.NewProxy(t, a.OpsAddr())
	env := []string{secretEnv}
	all := follow(t, env, "events", "tail", "--since", "start", "--ops", proxy.Addr())
	some := follow(t, env, "events", "tail", "--sale", "flash-*", "--event", "order.confirmed", "--since", "1h",
		"--json", "--ops", proxy.Addr())
	first := buy(t, a, "phone", 0)
	all.prints("  order.confirmed        phone  " + first + "  1  99.00 CNY\n")

	proxy.Cut()
	missed := buy(t, a, "flash-1", 1)
	require.Eventually(t, func() bool { return strings.Contains(all.err.String(), "trying again") }, tailPatience,
		5*time.Millisecond)
	require.NotContains(t, all.out.String(), missed)
	require.NoError(t, proxy.Heal())
	all.prints(missed)
	last := buy(t, a, "flash-1", 2)
	all.prints(last)
	some.prints(last)
	require.Equal(t, exitSuccess, all.ends())
	require.Equal(t, exitSuccess, some.ends())

	lines := strings.Split(strings.TrimSpace(all.out.String()), "\n")
	require.Len(t, lines, 3, "each once: %s", all.out)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  order\.confirmed {8}phone  \S+  1  99\.00 CNY$`,
		lines[0])
	var ids []string
	for line := range strings.Lines(some.out.String()) {
		var e api.OrderEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		require.Equal(t, "confirmed", e.Status)
		ids = append(ids, e.OrderID)
	}
	require.Equal(t, []string{missed, last}, ids)
	got := sluice(t, env, "events", "tail", "--since", "start", "--count", "2", "--ops", a.OpsAddr())
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Equal(t, strings.Join(lines[:2], "\n")+"\n", got.out)
}

// TestTailKeepsThePlaceThatItWasGiven breaks a connection before the first event: what happens meanwhile is asked for
// all the same.
func TestTailKeepsThePlaceThatItWasGiven(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	env, ops := operations(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if connections.Add(1) == 1 {
			_, _ = fmt.Fprint(w, "retry: 3000\n\nid: 1700000000000-3\n\n: keepalive\n\nevent: bye\ndata: {}\n\n")
			return
		}
		_, _ = fmt.Fprintf(w, "event: order\nid: 1700000000001-0\ndata: {\"id\":%q,\"type\":\"order.failed\"}\n\n",
			"o1 after "+r.Header.Get("Last-Event-ID"))
	})
	got := sluice(t, env, "events", "tail", "--count", "1", "--json", ops)
	require.Equal(t, outcome{out: `{"id":"o1 after 1700000000000-3","type":"order.failed"}` + "\n"}, got)
}

// TestTailEndsWhereItCannotGoOn checks that a first connection must succeed, and that a refusal is not repeated.
func TestTailEndsWhereItCannotGoOn(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	env, ops := operations(t, func(w http.ResponseWriter, _ *http.Request) {
		if connections.Add(1) == 1 {
			w.Header().Set("Content-Type", "text/event-stream")
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprint(w, `{"code":"unauthorized","detail":"the token has expired"}`)
	})
	got := sluice(t, env, "events", "tail", ops)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "the token has expired")
	require.EqualValues(t, 2, connections.Load())

	got = sluice(t, env, "events", "tail", "--ops", "http://127.0.0.1:1")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "is sluice running?")
	for flag, want := range map[string]string{"--event=order.eaten": "--event knows", "--sale=[": "--sale wants",
		"--since=soon": "--since wants", "--since=1960-01-01T00:00:00Z": "after 1970",
		"--count=-1": "--count must be"} {
		got := sluice(t, env, "events", "tail", flag, ops)
		require.Equal(t, exitUsage, got.code, flag)
		require.Contains(t, got.err, want)
	}
}
