package e2e

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// flashSale returns the load generator of a sale and the checker of its answers.
func flashSale(c *cluster, p plan) (*loadGenerator, *checker) {
	sale := "sale-" + p.name
	shoppers := &loadGenerator{cluster: c, sale: sale, plan: p, span: 1200 * time.Millisecond, history: &history{}}
	b := &breaker{cluster: c, plan: p}
	return shoppers, &checker{cluster: c, sale: sale, plan: p, history: shoppers.history, breaker: b,
		findings: &findings{}}
}

func TestSigtermUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for i, driver := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			p := plan{name: "term-" + driver, seed: uint64(i), driver: driver, layout: layout{allRoles}, shoppers: 400,
				stock: 300, limit: 1, lineCap: 10_000}
			s := openStores(t, testkit.NewDatabase(t, driver), nil)
			c := startCluster(t, s, system{layout: p.layout, logs: t.TempDir(),
				env: []string{"SLUICE_QUEUE__BATCH=3", "SLUICE_POOL__SIZE=2"}})
			shoppers, k := flashSale(c, p)
			c.openSale(t, shoppers.sale, p.stock, p.limit, p.lineCap)
			load, cancel := context.WithTimeout(t.Context(), loadPatience)
			defer cancel()
			shoppers.start(load)
			loaded := make(chan struct{})
			go func() { shoppers.wg.Wait(); close(loaded) }()
			require.Eventually(t, func() bool { return shoppers.history.answered.Load() > 100 }, loadPatience,
				time.Millisecond)

			n := c.nodes[0]
			n.hold(3 * time.Second) // long enough to look at what it left
			told := time.Now()
			l := n.signal(syscall.SIGTERM)
			<-l.done
			require.Zero(t, l.code, "exit code: %v", l.err)
			require.Less(t, time.Since(told), 10*time.Second, "stop.grace")
			left, err := s.leased(t.Context(), shoppers.sale)
			require.NoError(t, err)
			require.Zero(t, left, "leases and leased batches right after the exit")
			atExit := len(shoppers.history.accepted())
			require.False(t, closed(loaded), "the load was still running")

			<-loaded
			require.NoError(t, load.Err(), "every shopper was answered in the end")
			k.awaitSettled(t.Context(), told)
			k.checkAll(t.Context())
			require.Empty(t, k.findings.wrong)
			require.GreaterOrEqual(t, k.findings.accepted, atExit)
		})
	}
}

func TestTwoGatewaysAndTwoWorkersSellOneSaleExactly(t *testing.T) {
	t.Parallel()
	p := plan{name: "apart", seed: 1, driver: "postgres", layout: layout{"gateway", "gateway", "worker",
		"worker,notifier"}, shoppers: 400, stock: 150, limit: 1, lineCap: 10_000}
	s := openStores(t, testkit.NewDatabase(t, p.driver), nil)
	c := startCluster(t, s, system{layout: p.layout, logs: t.TempDir()})
	shoppers, k := flashSale(c, p)
	c.openSale(t, shoppers.sale, p.stock, p.limit, p.lineCap)
	load, cancel := context.WithTimeout(t.Context(), loadPatience)
	defer cancel()
	shoppers.start(load)
	shoppers.wg.Wait()
	require.NoError(t, load.Err(), "every shopper was answered")
	k.awaitSettled(t.Context(), time.Now())
	k.checkAll(t.Context())
	require.Empty(t, k.findings.wrong)

	// Cancelled units are on sale again; the rest was sold to the last one.
	_, available, err := s.stock(t.Context(), shoppers.sale)
	require.NoError(t, err)
	require.Equal(t, p.stock, k.findings.confirmed+available)
	for i := range available + 1 {
		bearer, err := token(fmt.Sprintf("latecomer-%d", i), false)
		require.NoError(t, err)
		url, _ := c.nodes[i%2].addresses()
		a, err := call(t.Context(), c.client, http.MethodPost, "http://"+url+"/v1/sales/"+shoppers.sale+"/orders",
			bearer, nil, nil)
		require.NoError(t, err)
		require.Equal(t, i == available, a.Code == "sold_out", "%s", a.Raw)
	}
	k.awaitQuiet(t.Context())
	_, available, err = s.stock(t.Context(), shoppers.sale)
	require.NoError(t, err)
	require.Zero(t, available)
}
