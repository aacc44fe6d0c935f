package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const (
	followTopic = "follow"
	followRead  = "follow-read"
	followers   = 2 // readers of the subscription that is pulled
)

// readSteps are the kill points of messages that are pulled. They are passed in gateways.
var readSteps = []string{"delay.receive", "delay.received", "delay.ack", "delay.acked"}

// followed are a shop's systems that follow the orders of a run: one is called, and two read a subscription together.
type followed struct {
	cluster  *cluster
	receiver *calls
	bearer   string
	wg       sync.WaitGroup

	mu   sync.Mutex
	read map[string]int // by message
}

// followEnv lets the processes of a run have topics, which other systems read.
func followEnv() []string {
	return []string{"SLUICE_DELAY__ORDER_EVENTS=true", "SLUICE_DELAY__LEASE=2s", "SLUICE_DELAY__ALLOW_PRIVATE=true",
		"SLUICE_WORK__ADDR=127.0.0.1:0"}
}

// openFollowed makes a topic of confirmed orders with two subscriptions. It returns nil for a plan without followers.
func openFollowed(t *testing.T, c *cluster, p plan) *followed {
	t.Helper()
	if !p.follows {
		return nil
	}
	f := &followed{cluster: c, receiver: newCalls(t), read: map[string]int{}}
	var err error
	f.bearer, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "logistics",
		"subscribe": []string{followRead}, "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	require.NoError(t, err)
	f.make(t, "/topics", map[string]any{"name": followTopic, "url": f.receiver.URL, "retry_unit_ms": 100,
		"events": []string{"order.confirmed"}})
	f.make(t, "/subscriptions", map[string]any{"name": followRead, "topic": followTopic, "kind": "pull",
		"lease_ms": 2000, "retry_unit_ms": 100})
	return f
}

// make asks until it is made: the process that is asked may die at its first step.
func (f *followed) make(t testing.TB, path string, body any) {
	t.Helper()
	var last reply
	require.Eventually(t, func() bool {
		a, err := f.cluster.admin(t.Context(), f.cluster.nodes[0], http.MethodPost, path, body)
		last = a
		return err == nil && (a.Status == http.StatusCreated || a.Status == http.StatusConflict)
	}, startPatience, 50*time.Millisecond, "%s: %s", path, &last)
}

// start lets the readers read until stop is called, which returns when they have ended.
func (f *followed) start(ctx context.Context, seed uint64) (stop func()) {
	if f == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	for n := range followers {
		choice := chanceOf(seed + uint64(n))
		f.wg.Go(func() {
			for ctx.Err() == nil {
				if !f.step(ctx, choice) {
					_ = pause(ctx, choice.ms(20, 80))
				}
			}
		})
	}
	return func() {
		cancel()
		f.wg.Wait()
	}
}

// step reads some messages and acknowledges them. It reports whether there were any.
func (f *followed) step(ctx context.Context, choice chance) bool {
	gateways := f.cluster.gateways()
	addr := gateways[choice.IntN(len(gateways))].workAddr()
	if addr == "" {
		return false
	}
	url := "http://" + addr + "/work/v1/subscriptions/" + followRead
	got, err := call(ctx, f.cluster.client, http.MethodPost, url+"/receive", f.bearer, nil,
		map[string]any{"max": 20, "wait": "1s"})
	var page struct {
		Messages []struct{ ID, Lease string }
	}
	if err != nil || json.Unmarshal(got.Raw, &page) != nil || len(page.Messages) == 0 {
		return false
	}
	leases := make([]string, len(page.Messages))
	f.mu.Lock()
	for i, m := range page.Messages {
		f.read[m.ID]++
		leases[i] = m.Lease
	}
	f.mu.Unlock()
	_, _ = call(ctx, f.cluster.client, http.MethodPost, url+"/ack", f.bearer, nil, map[string]any{"leases": leases})
	return true
}

// missing says which confirmed orders a system has not heard of.
func (f *followed) missing(ctx context.Context, sale string) string {
	rows, err := f.cluster.stores.orders(ctx, sale)
	if err != nil {
		return err.Error()
	}
	f.receiver.mu.Lock()
	called := slices.Collect(maps.Keys(f.receiver.bodies))
	f.receiver.mu.Unlock()
	heard := make(map[string]bool, len(called))
	for _, id := range called {
		heard[id] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var uncalled, unread []string
	for id, row := range rows {
		if row.Status != "confirmed" && row.Status != "paid" && row.Status != "expired" {
			continue
		}
		if event := id + ":order.confirmed"; !heard[followTopic+":"+event] {
			uncalled = append(uncalled, event)
		} else if f.read[event] == 0 {
			unread = append(unread, event)
		}
	}
	if len(uncalled)+len(unread) == 0 {
		return ""
	}
	return fmt.Sprintf("of %d orders %d were called to nobody, %d were read by nobody: %.200v", len(rows),
		len(uncalled), len(unread), slices.Concat(uncalled, unread))
}

// check waits until both systems have heard of every confirmed order, then until nothing is left to tell. Redis may
// lose a message that it took a moment ago where it loses orders, too: those come back by receipts, messages do not.
func (f *followed) check(ctx context.Context, k *checker) {
	if f == nil || k.plan.lossy() || k.plan.engine != onSingle {
		return
	}
	k.await(ctx, "the shop's systems were not told of every order", func() string { return f.missing(ctx, k.sale) })
	k.await(ctx, "messages are left over", func() string {
		for _, of := range []string{"{" + followTopic + "}:", "{" + followTopic + "}:s:" + followRead + ":"} {
			for _, part := range []string{"due", "firing", "dead"} {
				name := "sluice:delay:" + of + part
				if n, err := k.cluster.stores.client.ZCard(ctx, name).Result(); err != nil || n > 0 {
					return fmt.Sprintf("%s holds %d, %v", name, n, err)
				}
			}
		}
		return ""
	})
}
