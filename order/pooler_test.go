package order_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
	"sluice/store/schema"
)

// Two workers fulfil 250 orders through one PgBouncer whose pool is smaller than theirs.
func TestOrdersThroughPgBouncer(t *testing.T) {
	t.Parallel()
	const orders = 250
	d := testkit.PgBouncer(t, tables.New(t, store.Postgres), "default_pool_size = 4")
	w := newWorld(t, d, testkit.Embedded(t).Addr(), orders, 1)
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	other, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	_, err = schema.Of(other).Migrate(t.Context())
	require.NoError(t, err)
	second := order.NewFulfiller(order.FulfillerParts{
		DB: other, Sales: w.sales, Cache: w.cache, Deadline: 0, Channels: channels,
		OnCommit: func() {}, Log: slog.New(slog.DiscardHandler), Now: w.cache.Now,
	})
	w.admitMany(orders)

	var workers sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		workers.Go(func() { errs[i] = w.drainBy([]*order.Fulfiller{w.fulfiller, second}[i%2]) })
	}
	workers.Wait()
	for i, err := range errs {
		require.NoError(t, err, fmt.Sprint("worker ", i))
	}
	require.Equal(t, map[string]int{"confirmed": orders}, w.count())
	require.Zero(t, w.available())
	require.NoError(t, w.canceller.Cancel(w.ctx, theSale, "order-0007", "user-0007"))
	w.keep()
	require.EqualValues(t, 1, w.available())
	w.clean()
}

// drainBy fulfils small batches until the line is empty.
func (w *world) drainBy(f *order.Fulfiller) error {
	for {
		b, err := w.line.Claim(w.ctx, uuid.NewString(), 7, lease)
		if err != nil || len(b.Tickets) == 0 {
			return err
		}
		outcomes, err := f.Handle(w.ctx, b)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Op != queue.OpConfirm {
				return fmt.Errorf("order %s ends with %c: %s", o.ID, o.Op, o.Reason)
			}
		}
		if err := w.line.Settle(w.ctx, b, outcomes); err != nil {
			return err
		}
	}
}
