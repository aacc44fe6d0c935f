package e2e

import (
	"context"
	"math"
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
	node                   *node
	rps                    float64
	sent, answered, passed atomic.Int64
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
				req, err := http.NewRequestWithContext(ctx, http.MethodPost,
					"http://"+addr+"/v1/sales/"+sale+"/orders", nil)
				if err != nil {
					return
				}
				req.Header.Set("Authorization", "Bearer "+bearer)
				resp, err := client.Do(req)
				if err != nil {
					return
				}
				_ = resp.Body.Close()
				r.answered.Add(1)
				if resp.StatusCode != http.StatusTooManyRequests {
					r.passed.Add(1)
				}
			})
		}
	}
}

// TestOneLimitOverTwoGateways checks that two gateways keep one limit together, also after one was killed.
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
	// window is what passes and what is answered in a second: a busy machine sends less than it is asked to, and nobody
	// passes who has not come.
	window := func(span time.Duration) (passed, answered float64) {
		sum := func() (passed, answered int64) {
			return rushes[0].passed.Load() + rushes[1].passed.Load(), rushes[0].answered.Load() +
				rushes[1].answered.Load()
		}
		passedBefore, answeredBefore := sum()
		at := time.Now()
		<-time.After(span)
		passedNow, answeredNow := sum()
		took := time.Since(at).Seconds()
		return float64(passedNow-passedBefore) / took, float64(answeredNow-answeredBefore) / took
	}
	window(2 * time.Second) // the burst
	// Too many are never forgiven; too few may be a process that had no time for a moment, which loses what exceeds the
	// burst.
	for chances := 12; ; chances-- {
		asked, all, apart := rushes[1].sent.Load(), rushes[0].sent.Load()+rushes[1].sent.Load(), rushes[1].passed.Load()
		together, answered := window(4 * time.Second)
		part := float64(rushes[1].sent.Load()-asked) / float64(rushes[0].sent.Load()+rushes[1].sent.Load()-all)
		share := float64(rushes[1].passed.Load()-apart) / 4
		t.Logf("together %.0f/s of %.0f/s, one of them %.0f/s", together, answered, share)
		require.LessOrEqual(t, together, 1.05*limit, "together")
		if together >= 0.95*min(limit, answered) && math.Abs(share-together*part) <= 0.25*together*part {
			break
		}
		require.Positive(t, chances, "together, and each has its part by its demand")
	}

	const dead = 2 * time.Minute
	c.nodes[1].hold(dead)
	killed := time.Now()
	<-c.nodes[1].signal(syscall.SIGKILL).done
	first, answered := window(time.Second)
	t.Logf("in the first second after kill -9 %.0f/s of %.0f/s", first, answered)
	require.LessOrEqual(t, first, 1.3*limit, "its part is the other's within the second")
	require.GreaterOrEqual(t, first, 0.7*min(limit, answered), "its part is the other's within the second")
	for chances := 12; ; chances-- {
		alone, answered := window(4 * time.Second)
		t.Logf("then %.0f/s of %.0f/s", alone, answered)
		require.LessOrEqual(t, alone, 1.05*limit, "alone")
		if alone >= 0.95*min(limit, answered) {
			break
		}
		require.Positive(t, chances, "alone")
	}
	require.Less(t, time.Since(killed), dead, "it has not come back meanwhile")
}
