package app

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/delay"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// unattendedOf returns what a process counts that nobody takes.
func unattendedOf(t *testing.T, app *App) map[string]float64 {
	t.Helper()
	families, err := app.opt.Registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "sluice_unattended" {
				counts[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	return counts
}

// TestProcessesTakeTheirOwnSalesAndTopics runs two processes that share the work by name. What neither takes waits and
// is told, until a third comes for it.
func TestProcessesTakeTheirOwnSalesAndTopics(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Delay.AllowPrivate = true
	taking := func(roles Roles, names ...string) *App {
		own := cfg
		own.Queue.Sales, own.Delay.Topics = names, names
		return startApp(t, own, roles)
	}
	workers := Roles{Worker: true, Notifier: true}
	gateway := startApp(t, cfg, Roles{Gateway: true})
	taking(workers, "flash-*", "a-*")
	taking(workers, "phone", "b")
	openSale(t, inventory.NewSale{ID: "flash-1", Stock: 5}, gateway)
	openSale(t, inventory.NewSale{ID: "phone", Stock: 5}, gateway)
	openSale(t, inventory.NewSale{ID: "radio", Stock: 5}, gateway)
	receiver := providers.NewReceiver(t, providers.AcceptAll)
	for _, topic := range []string{"a-1", "b", "c"} {
		_, err := gateway.topics.Create(t.Context(), topic, delay.Change{URL: &receiver.URL}, "ann", "")
		require.NoError(t, err)
		_, err = gateway.publisher.Add(t.Context(), topic, []delay.New{{ID: "m", Body: []byte("1")}})
		require.NoError(t, err)
	}
	order := func(sale string) func() bool {
		resp, err := http.DefaultClient.Do(shop.Order(t, gateway.Addr(), sale, 1))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		return func() bool { // it is a row
			var n int64
			require.NoError(t, gateway.db.Read.Table("orders").Where("sale_id = ?", sale).Count(&n).Error)
			return n == 1
		}
	}
	for _, made := range []func() bool{order("flash-1"), order("phone")} {
		require.Eventually(t, made, 30*time.Second, 10*time.Millisecond)
	}
	radio := order("radio")
	require.Eventually(t, func() bool {
		return len(receiver.CallsWith("a-1:m")) == 1 && len(receiver.CallsWith("b:m")) == 1
	}, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		counts := unattendedOf(t, gateway)
		return counts["sale"] == 1 && counts["topic"] == 1
	}, 30*time.Second, 50*time.Millisecond)
	taken := asOperator(t, gateway, "/workers")
	require.Contains(t, taken, `{"kind":"sale","name":"radio","instances":[]}`)
	require.Contains(t, taken, `{"kind":"topic","name":"c","instances":[]}`)
	require.Equal(t, 2, strings.Count(taken, `"instances":[]`))
	require.False(t, radio(), "nobody took it")
	require.Empty(t, receiver.CallsWith("c:m"))

	taking(workers, "radio", "c") // while the others run
	require.Eventually(t, radio, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return len(receiver.CallsWith("c:m")) == 1 }, 30*time.Second,
		10*time.Millisecond)
	require.Eventually(t, func() bool {
		counts := unattendedOf(t, gateway)
		return counts["sale"] == 0 && counts["topic"] == 0
	}, 30*time.Second, 50*time.Millisecond)
}

// TestPatternsAreChecked checks that a pattern which cannot be read fails the start, and names its key.
func TestPatternsAreChecked(t *testing.T) {
	t.Parallel()
	cfg := configs.Default()
	cfg.Queue.Sales, cfg.Delay.Topics = []string{"[a"}, []string{""}
	err := cfg.Validate()
	require.ErrorContains(t, err, "queue.sales")
	require.ErrorContains(t, err, "delay.topics")
}
