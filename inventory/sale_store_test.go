package inventory_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/queue"
)

func TestNewSaleIsValidated(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		tests := []struct {
			field string // "" when it must be accepted
			edit  func(*inventory.NewSale)
		}{
			{"", func(n *inventory.NewSale) {}},
			{"", func(n *inventory.NewSale) { n.ID = "A" }},
			{"", func(n *inventory.NewSale) { n.ID = "0-_" + strings.Repeat("z", 61) }},
			{"id", func(n *inventory.NewSale) { n.ID = strings.Repeat("z", 65) }},
			{"id", func(n *inventory.NewSale) { n.ID = "" }},
			{"id", func(n *inventory.NewSale) { n.ID = "-a" }},
			{"id", func(n *inventory.NewSale) { n.ID = "a{b}" }},
			{"id", func(n *inventory.NewSale) { n.ID = "a/b" }},
			{"id", func(n *inventory.NewSale) { n.ID = "a:b" }},
			{"id", func(n *inventory.NewSale) { n.ID = "a\nb" }},
			{"id", func(n *inventory.NewSale) { n.ID = "手机" }},
			{"id", func(n *inventory.NewSale) { n.ID = "a\x00" }},
			{"title", func(n *inventory.NewSale) { n.Title = "" }},
			{"title", func(n *inventory.NewSale) { n.Title = "a\nb" }},
			{"title", func(n *inventory.NewSale) { n.Title = "a\x00b" }},
			{"title", func(n *inventory.NewSale) { n.Title = "a\x7fb" }},
			{"title", func(n *inventory.NewSale) { n.Title = "a\xffb" }},
			{"title", func(n *inventory.NewSale) { n.Title = strings.Repeat("x", 201) }},
			{"", func(n *inventory.NewSale) { n.ID, n.Title = "cjk", strings.Repeat("机", 200) }},
			{"title", func(n *inventory.NewSale) { n.Title = strings.Repeat("机", 201) }},
			{"", func(n *inventory.NewSale) { n.ID, n.Title = "emoji", "📱 {phone} 'x' %s" }},
			{"sku", func(n *inventory.NewSale) { n.SKU = "" }},
			{"sku", func(n *inventory.NewSale) { n.SKU = strings.Repeat("x", 65) }},
			{"sku", func(n *inventory.NewSale) { n.SKU = "a\tb" }},
			{"", func(n *inventory.NewSale) { n.ID, n.Stock = "empty", 0 }},
			{"", func(n *inventory.NewSale) { n.ID, n.Stock = "most", 1_000_000_000 }},
			{"stock", func(n *inventory.NewSale) { n.Stock = -1 }},
			{"stock", func(n *inventory.NewSale) { n.Stock = 1_000_000_001 }},
			{"stock", func(n *inventory.NewSale) { n.Stock = math.MaxInt64 }},
			{"", func(n *inventory.NewSale) { n.ID, n.PriceCents = "free", 0 }},
			{"price_cents", func(n *inventory.NewSale) { n.PriceCents = -1 }},
			{"price_cents", func(n *inventory.NewSale) { n.PriceCents = math.MaxInt64 }},
			{"currency", func(n *inventory.NewSale) { n.Currency = "" }},
			{"currency", func(n *inventory.NewSale) { n.Currency = "cny" }},
			{"currency", func(n *inventory.NewSale) { n.Currency = "CNYY" }},
			{"currency", func(n *inventory.NewSale) { n.Currency = "A1B" }},
			{"per_user_limit", func(n *inventory.NewSale) { n.PerUserLimit = 0 }},
			{"per_user_limit", func(n *inventory.NewSale) { n.PerUserLimit = 1001 }},
			{"cap", func(n *inventory.NewSale) { n.Cap = -1 }},
			{"cap", func(n *inventory.NewSale) { n.Cap = queue.MaxCap + 1 }},
			{"ends_at", func(n *inventory.NewSale) { n.EndsAt = n.StartsAt }},
			{"ends_at", func(n *inventory.NewSale) { n.EndsAt = n.StartsAt.Add(-time.Second) }},
			{"ends_at", func(n *inventory.NewSale) { n.StartsAt = time.Time{} }},
		}
		for i, tt := range tests {
			n := orders.NewSale(fmt.Sprintf("sale-%d", i), 10, 1)
			tt.edit(&n)
			_, err := w.Sales.Create(w.Ctx, n, "test")
			if tt.field == "" {
				require.NoError(w.T, err, "%d %+v", i, n)
				continue
			}
			var invalid invalid.Error
			require.ErrorAs(w.T, err, &invalid, "%d %+v", i, n)
			require.Len(w.T, invalid, 1, "%v", invalid)
			require.Equal(w.T, tt.field, invalid[0].Field)
			require.NotEmpty(w.T, invalid[0].Detail)
		}
		_, err := w.Sales.Create(w.Ctx, inventory.NewSale{}, "test")
		var invalid invalid.Error
		require.ErrorAs(w.T, err, &invalid)
		require.Len(w.T, invalid, 6, "every field at once: %v", invalid)
	})
}

// logEntry is a row of the admin log.
type logEntry struct {
	At                            int64
	Actor, Action, Target, Reason string
	SaleID                        string
	BeforeValue, AfterValue       string
}

// saleImage is some of what the admin log shows of a sale.
type saleImage struct {
	State, Title string
	PerUserLimit int `json:"per_user_limit"`
	Version      int64
	Stock        int64
}

func log(w *orders.World) []logEntry {
	w.T.Helper()
	var entries []logEntry
	require.NoError(w.T, w.DB.Read.Table("admin_log").Order("id").Find(&entries).Error)
	return entries
}

// logged decodes the values around one change.
func logged[T any](t testing.TB, e logEntry) (before, after T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(e.BeforeValue), &before))
	require.NoError(t, json.Unmarshal([]byte(e.AfterValue), &after))
	return before, after
}

func TestCreateOnce(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		sale := w.Create(orders.NewSale(orders.Sale, 10, 2))
		require.Equal(w.T, inventory.Open, sale.State)
		_, err := w.Sales.Create(w.Ctx, orders.NewSale(orders.Sale, 99, 1), "eve")
		require.ErrorIs(w.T, err, inventory.ErrExists)
		stored, stock := w.Get()
		require.Equal(w.T, sale, stored)
		require.Equal(w.T, inventory.Stock{SaleID: orders.Sale, Total: 10, Available: 10}, stock)
		entries := log(w)
		require.Len(w.T, entries, 1, "a refused change leaves no trace")
		require.Equal(w.T, "sale.create", entries[0].Action)
		require.Equal(w.T, "test", entries[0].Actor)
		require.Equal(w.T, orders.Sale, entries[0].Target)
		require.Equal(w.T, "null", entries[0].BeforeValue)
		require.Equal(w.T, w.Clock.Now().UnixMilli(), entries[0].At)
		require.Equal(w.T, orders.Sale, entries[0].SaleID)
		_, after := logged[saleImage](w.T, entries[0])
		require.Equal(w.T, saleImage{State: "open", Title: sale.Title, PerUserLimit: 2, Version: 1, Stock: 10}, after)

		// Many at once: one of them made it.
		var created atomic.Int64
		var makers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			makers.Go(func() {
				_, errs[i] = w.Sales.Create(w.Ctx, orders.NewSale("raced", int64(i), 1), "test")
				if errs[i] == nil {
					created.Add(1)
				}
			})
		}
		makers.Wait()
		require.EqualValues(w.T, 1, created.Load())
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(w.T, err, inventory.ErrExists)
			}
		}
		_, _, err = w.Sales.Get(w.Ctx, "nowhere")
		require.ErrorIs(w.T, err, inventory.ErrNoSale)
		sales, stocks, err := w.Sales.List(w.Ctx)
		require.NoError(w.T, err)
		require.Len(w.T, sales, 2)
		require.EqualValues(w.T, 10, stocks[orders.Sale].Total)
	})
}

func TestStatesAndClosing(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		n := orders.NewSale(orders.Sale, 10, 1)
		n.Open = false
		require.Equal(w.T, inventory.Draft, w.Create(n).State)
		version := int64(1)
		for _, state := range []string{inventory.Open, inventory.Paused, inventory.Open, inventory.Closed} {
			w.Clock.Advance(time.Second)
			sale, _, err := w.Sales.SetState(w.Ctx, orders.Sale, state, "ann", "because of "+state)
			require.NoError(w.T, err)
			version++
			stored, _ := w.Get()
			require.Equal(w.T, sale, stored)
			require.Equal(w.T, state, stored.State)
			require.Equal(w.T, version, stored.Version)
			require.Equal(w.T, w.Clock.Now().UnixMilli(), stored.UpdatedAt)
		}
		entries := log(w)
		require.Len(w.T, entries, 5)
		before, after := logged[saleImage](w.T, entries[2])
		require.Equal(w.T, []string{"ann", "sale.paused", "because of paused", "open", "paused"},
			[]string{entries[2].Actor, entries[2].Action, entries[2].Reason, before.State, after.State})

		ends := time.Now().Add(2 * time.Hour)
		for name, change := range map[string]func() error{
			"open": func() error {
				_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, inventory.Open, "ann",
					"")
				return err
			},
			"close": func() error {
				_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, inventory.Closed, "ann",
					"")
				return err
			},
			"update": func() error {
				_, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{EndsAt: &ends}, "ann", "")
				return err
			},
			"stock": func() error {
				_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 1, Actor: "ann",
					Reason: "more"})
				return err
			},
		} {
			require.ErrorIs(w.T, change(), inventory.ErrClosed, name)
		}
		require.Len(w.T, log(w), 5)
		var invalid invalid.Error
		for _, state := range []string{"", "draft", "ended", "OPEN"} {
			_, _, err := w.Sales.SetState(w.Ctx, orders.Sale, state, "ann", "")
			require.ErrorAs(w.T, err, &invalid, state)
		}
		_, _, err := w.Sales.SetState(w.Ctx, "nowhere", inventory.Open, "ann", "")
		require.ErrorIs(w.T, err, inventory.ErrNoSale)
		w.Create(orders.NewSale("other", 1, 1))
		for _, reason := range []string{strings.Repeat("x", 201), "a\x00b", "a\xffb"} {
			_, _, err = w.Sales.SetState(w.Ctx, "other", inventory.Paused, "ann", reason)
			require.ErrorAs(w.T, err, &invalid, "%q", reason)
			require.Equal(w.T, "reason", invalid[0].Field)
		}
	})
}

func TestStateAShopperSees(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 1, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		state string
		at    time.Duration
		want  string
	}{
		{inventory.Draft, time.Minute, "scheduled"}, {inventory.Open, -1, "scheduled"}, {inventory.Open, 0, "open"},
		{inventory.Open, time.Hour - 1, "open"}, {inventory.Open, time.Hour, "ended"},
		{inventory.Paused, time.Minute, "paused"},
		{inventory.Paused, time.Hour, "ended"}, {inventory.Draft, time.Hour, "ended"},
		{inventory.Closed, -time.Hour, "closed"}, {inventory.Closed, 2 * time.Hour, "closed"},
	} {
		sale := inventory.Sale{State: tt.state, StartsAt: start.UnixMilli(), EndsAt: start.Add(time.Hour).UnixMilli()}
		require.Equal(t, tt.want, sale.StateAt(start.Add(tt.at)), "%s at %s", tt.state, tt.at)
	}
}

func TestUpdateBounds(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Create(orders.NewSale(orders.Sale, 10, 2))
		number := func(n int) *int { return &n }
		at := func(d time.Duration) *time.Time { t := time.Now().Add(d).Truncate(time.Millisecond).UTC(); return &t }
		starts, ends := at(time.Hour), at(2*time.Hour)
		sale, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{Cap: number(77), PerUserLimit: number(5),
			StartsAt: starts, EndsAt: ends}, "ann", "new plan")
		require.NoError(w.T, err)
		require.EqualValues(w.T, 2, sale.Version)
		stored, _ := w.Get()
		require.Equal(w.T, sale, stored)
		require.Equal(w.T, []any{77, 5, *starts, *ends}, []any{stored.Cap, stored.PerUserLimit, stored.Starts(),
			stored.Ends()})
		for field, change := range map[string]inventory.Change{
			"per_user_limit": {PerUserLimit: number(4)},
			"cap":            {Cap: number(queue.MaxCap + 1)},
			"ends_at":        {EndsAt: at(time.Minute)},
		} {
			_, _, err := w.Sales.Update(w.Ctx, orders.Sale, change, "ann", "")
			var invalid invalid.Error
			require.ErrorAs(w.T, err, &invalid)
			require.Equal(w.T, field, invalid[0].Field)
		}
		_, _, err = w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{PerUserLimit: number(1001)}, "ann", "")
		require.Error(w.T, err)
		same, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{}, "ann", "")
		require.NoError(w.T, err)
		require.Equal(w.T, 77, same.Cap)
		require.Len(w.T, log(w), 3)
	})
}
