package e2e

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

const (
	rushRequests = 30_000 // SOAK_RUSH asks for more
	rushChanges  = 20
	rushAtOnce   = 64
)

// rushOf returns how many requests the rush has.
func rushOf(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SOAK_RUSH")
	if text == "" {
		return rushRequests
	}
	requests, err := strconv.Atoi(text)
	require.NoError(t, err, "SOAK_RUSH")
	return requests
}

// TestASaleWhileEverythingChanges runs a sale of thousands of requests during which limits, cap, batch and pool of two
// gateways and a worker change twenty times by all three ways.
func TestASaleWhileEverythingChanges(t *testing.T) {
	o := &operator{t: t}
	o.mount = newMount(t, o.fileWith(1500))
	s := openStores(t, testkit.NewDatabase(t, "postgres"), nil)
	c := startCluster(t, s, system{layout: layout{"gateway", "gateway", "worker,notifier"}, logs: t.TempDir(),
		config: o.mount.path(),
		env:    []string{"SLUICE_LOG__LEVEL=info"}})
	o.cluster, o.shell = c, shell{t: t, path: c.nodes[0].binary,
		env: []string{"PATH=/usr/bin:/bin", "SLUICE_AUTH__SECRET=" + secret}}
	th := newThrong(c, "rush", rushOf(t))
	c.openSale(t, "rush", th.stock(), 1, 0)

	load, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { th.run(load) })

	ways := []func(int){o.byAdmin, o.byMount, o.bySignal}
	var before int64
	for n := range rushChanges {
		due := max(int64(n*th.step()), before+int64(th.step()/4))
		require.Eventually(t, func() bool { return th.answered.Load() >= due }, time.Minute, time.Millisecond,
			"answers between two changes")
		answered := th.answered.Load() // first: what is sent later must not be missing
		require.Greater(t, th.sent.Load(), answered, "requests are in flight")
		began := time.Now()
		ways[n%len(ways)](n)
		t.Logf("change %d: made in %s, %d requests answered", n+1, time.Since(began).Round(time.Millisecond),
			th.answered.Load())
		before = th.answered.Load()
		th.allow(th.step())
	}
	require.Less(t, before, int64(th.requests-th.step()/2), "the last change fell into the rush, too")
	th.allow(th.requests)
	running.Wait()
	require.NoError(t, load.Err())

	require.EqualValues(t, th.requests, th.answered.Load())
	require.Empty(t, th.wrong)
	t.Log(th.outcomes)
	last := o.versions()[0]
	require.Equal(t, o.version, last.Version, "nothing but the changes and their ends has made a version")
	for _, n := range c.nodes {
		require.Eventually(t, func() bool { return o.applied(n) == strconv.FormatInt(last.Version, 10) },
			10*time.Second, 50*time.Millisecond,
			"%s has %s, the last change made %d", n.name, o.applied(n), last.Version)
	}
	o.allShow(last.Version)
	o.soldExactly(th)
}

// soldExactly waits until the line is empty and compares both stores with what shoppers were told.
func (o *operator) soldExactly(th *throng) {
	o.t.Helper()
	s := o.cluster.stores
	require.Eventually(o.t, func() bool {
		busy, err := s.busy(o.t.Context(), th.sale)
		return err == nil && busy == ""
	}, quietPatience, lookEvery)
	rows, err := s.orders(o.t.Context(), th.sale)
	require.NoError(o.t, err)
	confirmed := 0
	for id := range th.accepted {
		if rows[id].Status == "confirmed" {
			confirmed++
		}
	}
	require.Equal(o.t, len(th.accepted), confirmed, "each accepted order, and")
	require.Len(o.t, rows, len(th.accepted), "no other")
	_, available, err := s.stock(o.t.Context(), th.sale)
	require.NoError(o.t, err)
	require.Equal(o.t, th.stock()-len(th.accepted), available)
	_, ops := o.cluster.nodes[0].addresses()
	o.shell.ok("audit", "--ops", "http://"+ops)
}
