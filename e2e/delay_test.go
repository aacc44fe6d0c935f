package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// delayPatience is how long delayed messages may take in all, with leases that have to run out.
const delayPatience = 60 * time.Second

// delaySteps are the kill points of messages that are called. They are passed in notifiers.
var delaySteps = []string{"delay.claim", "delay.claimed", "delay.call", "delay.called", "delay.settle", "delay.settled"}

// calls are what a receiver of delayed messages was called with.
type calls struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string][]string // by webhook-id
}

func newCalls(t *testing.T) *calls {
	c := &calls{bodies: map[string][]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // its sender died
		}
		id := r.Header.Get("webhook-id")
		c.mu.Lock()
		c.bodies[id] = append(c.bodies[id], string(body))
		c.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *calls) messages() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bodies)
}

// callbacks are messages of one topic on their way to one receiver.
type callbacks struct {
	t        *testing.T
	cluster  *cluster
	receiver *calls
	n        int
}

// addCallbacks makes a topic and messages that fall due over a second.
func addCallbacks(t *testing.T, c *cluster, n int) *callbacks {
	t.Helper()
	b := &callbacks{t: t, cluster: c, receiver: newCalls(t), n: n}
	b.ask(http.MethodPost, "/topics", map[string]any{"name": "points", "url": b.receiver.URL, "retry_unit_ms": 100})
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{"id": fmt.Sprint("m", i), "delay_ms": i * 1000 / n, "body": map[string]int{"n": i}}
	}
	b.ask(http.MethodPost, "/topics/points/messages", map[string]any{"messages": list})
	return b
}

// ask repeats a request until a process answers it: any of them may be dead just then. Asking twice changes nothing,
// except that the topic may be there already.
func (b *callbacks) ask(method, path string, body any) {
	b.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(b.t, err)
	bearer, err := token("root", true)
	require.NoError(b.t, err)
	var last string
	require.Eventually(b.t, func() bool {
		_, ops := b.cluster.nodes[0].addresses()
		ctx, cancel := context.WithTimeout(b.t.Context(), 4*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://"+ops+"/admin/v1"+path,
			strings.NewReader(string(text)))
		if err != nil {
			return false
		}
		r.Header.Set("Authorization", "Bearer "+bearer)
		r.Header.Set("Content-Type", "application/json")
		resp, err := b.cluster.client.Do(r)
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		last = resp.Status + " " + string(answer)
		return resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict && path == "/topics"
	}, delayPatience, 50*time.Millisecond, "%s %s: %s", method, path, &last)
}

// delivered waits until Redis holds every message as delivered, then holds the receiver against what was sent.
func (b *callbacks) delivered() {
	b.t.Helper()
	ctx, client := b.t.Context(), b.cluster.stores.client
	key := func(name string) string { return "sluice:delay:{points}:" + name }
	require.Eventually(b.t, func() bool { return client.LLen(ctx, key("done")).Val() == int64(b.n) }, delayPatience,
		20*time.Millisecond,
		"not every message was delivered; logs in %s", b.cluster.logs)
	require.Zero(b.t, client.Exists(ctx, key("due"), key("firing"), key("tries"), key("dead")).Val(),
		"nothing is left over")
	b.receiver.mu.Lock()
	defer b.receiver.mu.Unlock()
	require.Len(b.t, b.receiver.bodies, b.n, "every message came, each under its own id")
	for i := range b.n {
		for _, body := range b.receiver.bodies[fmt.Sprint("points:m", i)] {
			require.JSONEq(b.t, fmt.Sprintf(`{"n":%d}`, i), body)
		}
	}
}

func delayCluster(t *testing.T, driver string, l layout, arms map[int]string) *cluster {
	t.Helper()
	s := openStores(t, testkit.NewDatabase(t, driver), nil)
	return startCluster(t, s, system{tags: killPoints, layout: l, arms: arms, logs: t.TempDir(),
		env: []string{"SLUICE_DELAY__LEASE=2s", "SLUICE_DELAY__ALLOW_PRIVATE=true"}})
}

// TestDelayedMessagesOutliveKills runs two notifiers and kills one after the other, and Redis as well.
func TestDelayedMessagesOutliveKills(t *testing.T) {
	t.Parallel()
	c := delayCluster(t, "postgres", layout{"gateway,worker", "notifier", "notifier"}, nil)
	b := addCallbacks(t, c, 1000)
	for i, kill := range []func(){
		func() { c.nodes[1].signal(syscall.SIGKILL) },
		func() { c.nodes[2].signal(syscall.SIGKILL) },
		func() { c.stores.redis.Kill(); require.NoError(t, c.stores.redis.Start(t.Context())) },
		func() { c.nodes[1].signal(syscall.SIGTERM) },
	} {
		require.Eventually(t, func() bool { return b.receiver.messages() > (i+1)*120 }, delayPatience, time.Millisecond)
		kill()
	}
	b.delivered()
}
