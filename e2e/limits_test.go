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
	passed atomic.Int64
}

func (r *rush) run(ctx context.Context, client *http.Client, sale, bearer string) {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, 64)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last, due := time.Now(), 0.0
	for ctx.Err() == nil {
		<-tick.C
		now := time.Now()
		due = min(due+r.rps*now.Sub(last).Seconds(), 64)
		for last = now; due >= 1; due-- {
			select {
			case slots <- struct{}{}:
			default:
				continue // the gateway is gone or slow
			}
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
func TestOneLimitOverTwoGateways(t *testing.T) {
	t.Parallel()
	const limit = 400
	s := openStores(t, testkit.NewDatabase(t, "postgres"), nil)
	c := startCluster(t, s, system{layout: layout{"gateway", "gateway"}, logs: t.TempDir(),
		env: []string{"SLUICE_LIMITS__GLOBAL_RPS=400", "SLUICE_LIMITS__GLOBAL_BURST=50"}})
	c.openSale(t, "rush", 10, 1, 100)
	bearer, err := token("ann", false)
	require.NoError(t, err)
	rushes := []*rush{{node: c.nodes[0], rps: 900}, {node: c.nodes[1], rps: 450}}
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
	rate(3 * time.Second) // the burst
	require.InEpsilon(t, limit, rate(3*time.Second), 0.05, "together")
	c.nodes[1].hold(8 * time.Second)
	<-c.nodes[1].signal(syscall.SIGKILL).done
	require.InEpsilon(t, limit, rate(3*time.Second), 0.05, "after one was killed")
}
