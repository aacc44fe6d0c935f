package inventory_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/queue"
)

func TestNewSaleIsValidated(t *testing.T) {
	eachDatabase(t, func(w *world) {
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
			n := newSale(fmt.Sprintf("sale-%d", i), 10, 1)
			tt.edit(&n)
			_, err := w.saleStore.Create(w.ctx, n, "test")
			if tt.field == "" {
				require.NoError(w.t, err, "%d %+v", i, n)
				continue
			}
			var invalid invalid.Error
			require.ErrorAs(w.t, err, &invalid, "%d %+v", i, n)
			require.Len(w.t, invalid, 1, "%v", invalid)
			require.Equal(w.t, tt.field, invalid[0].Field)
			require.NotEmpty(w.t, invalid[0].Detail)
		}
		_, err := w.saleStore.Create(w.ctx, inventory.NewSale{}, "test")
		var invalid invalid.Error
		require.ErrorAs(w.t, err, &invalid)
		require.Len(w.t, invalid, 6, "every field at once: %v", invalid)
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

func (w *world) log() []logEntry {
	w.t.Helper()
	var entries []logEntry
	require.NoError(w.t, w.db.Read.Table("admin_log").Order("id").Find(&entries).Error)
	return entries
}

// logged decodes the values around one change.
func logged[T any](t *testing.T, e logEntry) (before, after T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(e.BeforeValue), &before))
	require.NoError(t, json.Unmarshal([]byte(e.AfterValue), &after))
	return before, after
}

func TestCreateOnce(t *testing.T) {
	eachDatabase(t, func(w *world) {
		sale := w.create(newSale(theSale, 10, 2))
		require.Equal(w.t, inventory.Open, sale.State)
		_, err := w.saleStore.Create(w.ctx, newSale(theSale, 99, 1), "eve")
		require.ErrorIs(w.t, err, inventory.ErrExists)
		stored, stock := w.get()
		require.Equal(w.t, sale, stored)
		require.Equal(w.t, inventory.Stock{SaleID: theSale, Total: 10, Available: 10}, stock)
		entries := w.log()
		require.Len(w.t, entries, 1, "a refused change leaves no trace")
		require.Equal(w.t, "sale.create", entries[0].Action)
		require.Equal(w.t, "test", entries[0].Actor)
		require.Equal(w.t, theSale, entries[0].Target)
		require.Equal(w.t, "null", entries[0].BeforeValue)
		require.Equal(w.t, w.clock.Now().UnixMilli(), entries[0].At)
		require.Equal(w.t, theSale, entries[0].SaleID)
		_, after := logged[saleImage](w.t, entries[0])
		require.Equal(w.t, saleImage{State: "open", Title: sale.Title, PerUserLimit: 2, Version: 1, Stock: 10}, after)

		// Many at once: one of them made it.
		var created atomic.Int64
		var makers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			makers.Go(func() {
				_, errs[i] = w.saleStore.Create(w.ctx, newSale("raced", int64(i), 1), "test")
				if errs[i] == nil {
					created.Add(1)
				}
			})
		}
		makers.Wait()
		require.EqualValues(w.t, 1, created.Load())
		for _, err := range errs {
			if err != nil {
				require.ErrorIs(w.t, err, inventory.ErrExists)
			}
		}
		_, _, err = w.saleStore.Get(w.ctx, "nowhere")
		require.ErrorIs(w.t, err, inventory.ErrNoSale)
		sales, stocks, err := w.saleStore.List(w.ctx)
		require.NoError(w.t, err)
		require.Len(w.t, sales, 2)
		require.EqualValues(w.t, 10, stocks[theSale].Total)
	})
}

func TestStatesAndClosing(t *testing.T) {
	eachDatabase(t, func(w *world) {
		n := newSale(theSale, 10, 1)
		n.Open = false
		require.Equal(w.t, inventory.Draft, w.create(n).State)
		version := int64(1)
		for _, state := range []string{inventory.Open, inventory.Paused, inventory.Open, inventory.Closed} {
			w.clock.Advance(time.Second)
			sale, _, err := w.saleStore.SetState(w.ctx, theSale, state, "ann", "because of "+state)
			require.NoError(w.t, err)
			version++
			stored, _ := w.get()
			require.Equal(w.t, sale, stored)
			require.Equal(w.t, state, stored.State)
			require.Equal(w.t, version, stored.Version)
			require.Equal(w.t, w.clock.Now().UnixMilli(), stored.UpdatedAt)
		}
		entries := w.log()
		require.Len(w.t, entries, 5)
		before, after := logged[saleImage](w.t, entries[2])
		require.Equal(w.t, []string{"ann", "sale.paused", "because of paused", "open", "paused"},
			[]string{entries[2].Actor, entries[2].Action, entries[2].Reason, before.State, after.State})

		ends := time.Now().Add(2 * time.Hour)
		for name, change := range map[string]func() error{
			"open": func() error {
				_, _, err := w.saleStore.SetState(w.ctx, theSale, inventory.Open, "ann",
					"")
				return err
			},
			"close": func() error {
				_, _, err := w.saleStore.SetState(w.ctx, theSale, inventory.Closed, "ann",
					"")
				return err
			},
			"update": func() error {
				_, _, err := w.saleStore.Update(w.ctx, theSale, inventory.Change{EndsAt: &ends}, "ann", "")
				return err
			},
			"stock": func() error {
				_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 1, Actor: "ann",
					Reason: "more"})
				return err
			},
		} {
			require.ErrorIs(w.t, change(), inventory.ErrClosed, name)
		}
		require.Len(w.t, w.log(), 5)
		var invalid invalid.Error
		for _, state := range []string{"", "draft", "ended", "OPEN"} {
			_, _, err := w.saleStore.SetState(w.ctx, theSale, state, "ann", "")
			require.ErrorAs(w.t, err, &invalid, state)
		}
		_, _, err := w.saleStore.SetState(w.ctx, "nowhere", inventory.Open, "ann", "")
		require.ErrorIs(w.t, err, inventory.ErrNoSale)
		w.create(newSale("other", 1, 1))
		for _, reason := range []string{strings.Repeat("x", 201), "a\x00b", "a\xffb"} {
			_, _, err = w.saleStore.SetState(w.ctx, "other", inventory.Paused, "ann", reason)
			require.ErrorAs(w.t, err, &invalid, "%q", reason)
			require.Equal(w.t, "reason", invalid[0].Field)
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
	eachDatabase(t, func(w *world) {
		w.create(newSale(theSale, 10, 2))
		number := func(n int) *int { return &n }
		at := func(d time.Duration) *time.Time { t := time.Now().Add(d).Truncate(time.Millisecond).UTC(); return &t }
		starts, ends := at(time.Hour), at(2*time.Hour)
		sale, _, err := w.saleStore.Update(w.ctx, theSale, inventory.Change{Cap: number(77), PerUserLimit: number(5),
			StartsAt: starts, EndsAt: ends}, "ann", "new plan")
		require.NoError(w.t, err)
		require.EqualValues(w.t, 2, sale.Version)
		stored, _ := w.get()
		require.Equal(w.t, sale, stored)
		require.Equal(w.t, []any{77, 5, *starts, *ends}, []any{stored.Cap, stored.PerUserLimit, stored.Starts(),
			stored.Ends()})
		for field, change := range map[string]inventory.Change{
			"per_user_limit": {PerUserLimit: number(4)},
			"cap":            {Cap: number(queue.MaxCap + 1)},
			"ends_at":        {EndsAt: at(time.Minute)},
		} {
			_, _, err := w.saleStore.Update(w.ctx, theSale, change, "ann", "")
			var invalid invalid.Error
			require.ErrorAs(w.t, err, &invalid)
			require.Equal(w.t, field, invalid[0].Field)
		}
		_, _, err = w.saleStore.Update(w.ctx, theSale, inventory.Change{PerUserLimit: number(1001)}, "ann", "")
		require.Error(w.t, err)
		same, _, err := w.saleStore.Update(w.ctx, theSale, inventory.Change{}, "ann", "")
		require.NoError(w.t, err)
		require.Equal(w.t, 77, same.Cap)
		require.Len(w.t, w.log(), 3)
	})
}

func TestAdjustStock(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		w.admitMany(4)
		w.work(4)
		after, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 5, Actor: "ann",
			Reason: "found a box"})
		require.NoError(w.t, err)
		require.Equal(w.t, inventory.Stock{SaleID: theSale, Total: 15, Available: 11, Changes: 2}, after.Stock)
		after, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: -11, Actor: "ann",
			Reason: "water damage"})
		require.NoError(w.t, err)
		require.Equal(w.t, inventory.Stock{SaleID: theSale, Total: 4, Available: 0, Changes: 3}, after.Stock)
		_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: -1, Actor: "ann",
			Reason: "one more"})
		require.ErrorIs(w.t, err, inventory.ErrShort, "sold units cannot be taken away")
		sale, stock := w.get()
		require.EqualValues(w.t, 3, sale.Version)
		require.Equal(w.t, inventory.Adjusted{Sale: sale, Stock: stock}, after)

		var invalid invalid.Error
		for _, delta := range []int64{0, 1_000_000_000, 1_000_000_001, math.MinInt64, math.MaxInt64} {
			_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: delta, Actor: "ann",
				Reason: "why"})
			require.ErrorAs(w.t, err, &invalid, "%d", delta)
		}
		for _, reason := range []string{"", strings.Repeat("x", 201), "a\nb"} {
			_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 1, Actor: "ann",
				Reason: reason})
			require.ErrorAs(w.t, err, &invalid, "%q", reason)
		}
		_, err = w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: "nowhere", Delta: 1, Actor: "ann",
			Reason: "why"})
		require.ErrorIs(w.t, err, inventory.ErrNoSale)

		var moves []struct {
			Delta         int64
			Reason, Actor string
		}
		require.NoError(w.t, w.db.Read.Table("stock_moves").Order("id").Find(&moves).Error)
		require.Equal(w.t, "[{10 created test} {5 found a box ann} {-11 water damage ann}]", fmt.Sprint(moves))
		entries := w.log()
		require.Len(w.t, entries, 3)
		was, is := logged[inventory.Stock](w.t, entries[2])
		require.Equal(w.t, []int64{15, 11, 4, 0}, []int64{was.Total, was.Available, is.Total, is.Available})
		w.keep()
		w.clean()
	})
}

func TestLedgerNeverBelowZero(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.create(newSale(theSale, 100, 1))
		require.ErrorIs(w.t, w.db.Tx(w.ctx, func(tx *gorm.DB) error { return inventory.Return(tx, "nowhere", 1) }),
			inventory.ErrNoSale)
		require.ErrorIs(w.t, w.db.Tx(w.ctx, func(tx *gorm.DB) error {
			_, err := inventory.Take(tx, inventory.Taking{Sale: theSale, Epoch: 0, Units: 101})
			return err
		}), inventory.ErrShort)
		require.ErrorIs(w.t, w.db.Tx(w.ctx, func(tx *gorm.DB) error {
			_, err := inventory.Take(tx, inventory.Taking{Sale: theSale, Epoch: 7, Units: 1})
			return err
		}), inventory.ErrStale)
		require.Error(w.t, w.db.Tx(w.ctx, func(tx *gorm.DB) error { return inventory.Return(tx, theSale, 1) }),
			"more than there ever was")

		var held atomic.Int64 // units taken and not returned
		var workers sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			workers.Go(func() {
				for n := range 25 {
					units := int64(n%7 + 1)
					err := w.db.Tx(w.ctx, func(tx *gorm.DB) error {
						_, err := inventory.Take(tx, inventory.Taking{Sale: theSale, Units: units})
						return err
					})
					if err == nil {
						held.Add(units)
					} else if !errors.Is(err, inventory.ErrShort) {
						errs[i] = err
						return
					}
					if err == nil && n%4 == 0 {
						if errs[i] = w.db.Tx(w.ctx, func(tx *gorm.DB) error {
							return inventory.Return(tx, theSale,
								units)
						}); errs[i] != nil {
							return
						}
						held.Add(-units)
					}
				}
			})
		}
		workers.Wait()
		for _, err := range errs {
			require.NoError(w.t, err)
		}
		_, stock := w.get()
		require.Equal(w.t, 100-held.Load(), stock.Available)
		require.GreaterOrEqual(w.t, stock.Available, int64(0))
		require.Less(w.t, stock.Available, int64(7), "it was fought for to the end")
	})
}
