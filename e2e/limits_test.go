package e2e

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// rush asks one gateway for orders, so often a second, and counts what its limit lets through.
type rush struct {
	node   *node
	rps    float64
	sent   atomic.Int64
	passed atomic.Int64
}

func (r *rush) run(ctx context.Context, client *http.Client, sale, bearer string) {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, rushAtOnce)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last, due := time.Now(), 0.0
	for ctx.Err() == nil {
		<-tick.C
		now := time.Now()
		due = min(due+r.rps*now.Sub(last).Seconds(), rushAtOnce)
		for last = now; due >= 1; due-- {
			select {
			case slots <- struct{}{}:
			default:
				continue // the gateway is gone or slow
			}
			r.sent.Add(1)
			open.Go(func() {
				defer func() { <-slots }()
				addr, _ := r.node.addresses()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/sales/"+sale+"/orders", nil)
				if err != nil {
					return
				}
				req.Header.Set("Authorization", "Bearer "+bearer)
				resp, err := client.Do(req)
				if err != nil {
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusTooManyRequests {
					r.passed.Add(1)
				}
			})
		}
	}
}

// Two gateways keep one limit together, also after one of them was killed.
//
// It does not run beside others: what is refused here must be refused by the
// limit, and what passes must be sent in time.
func TestOneLimitOverTwoGateways(t *testing.T) {
	const limit = 1000
	s := openStores(t, testkit.NewDatabase(t, "postgres"), nil)
	c := startCluster(t, s, system{layout: layout{"gateway", "gateway"}, logs: t.TempDir(),
		env: []string{"SLUICE_LIMITS__GLOBAL_RPS=1000", "SLUICE_LIMITS__GLOBAL_BURST=100"}})
	c.openSale(t, "rush", 10, 1, 100)
	bearer, err := token("ann", false)
	require.NoError(t, err)
	// Each gateway is asked for more than half, one alone for more than all.
	rushes := []*rush{{node: c.nodes[0], rps: 1500}, {node: c.nodes[1], rps: 800}}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, r := range rushes {
		running.Go(func() { r.run(ctx, c.client, "rush", bearer) })
	}
	rate := func(span time.Duration) float64 {
		sum := func() int64 { return rushes[0].passed.Load() + rushes[1].passed.Load() }
		was, at := sum(), time.Now()
		<-time.After(span)
		return float64(sum()-was) / time.Since(at).Seconds()
	}
	rate(2 * time.Second) // the burst
	apart, asked, all := rushes[1].passed.Load(), rushes[1].sent.Load(), rushes[0].sent.Load()+rushes[1].sent.Load()
	together := rate(4 * time.Second)
	require.InEpsilon(t, limit, together, 0.05, "together")
	part := float64(rushes[1].sent.Load()-asked) / float64(rushes[0].sent.Load()+rushes[1].sent.Load()-all) // a busy machine sends less
	require.InEpsilon(t, limit*part, float64(rushes[1].passed.Load()-apart)/4, 0.25, "each has its part by its demand")

	c.nodes[1].hold(10 * time.Second)
	killed := time.Now()
	<-c.nodes[1].signal(syscall.SIGKILL).done
	first := rate(time.Second)
	alone := rate(4 * time.Second)
	require.Less(t, time.Since(killed), 10*time.Second, "it has not come back meanwhile")
	t.Logf("together %.0f/s; in the first second after kill -9 %.0f/s, then %.0f/s", together, first, alone)
	require.InEpsilon(t, limit, (first+4*alone)/5, 0.05, "from the moment at which one was killed")
	require.InEpsilon(t, limit, first, 0.3, "its part is the other's within the second")
}
