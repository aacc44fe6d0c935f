package order_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// Two workers fulfil 250 orders through one PgBouncer whose pool is smaller than theirs.
func TestOrdersThroughPgBouncer(t *testing.T) {
	t.Parallel()
	const many = 250
	d := testkit.PgBouncer(t, tables.New(t, store.Postgres), "default_pool_size = 4")
	w := orders.New(t, d, testkit.Embedded(t).Addr(), many, 1)
	other := tables.Open(t, d)
	second := order.NewFulfiller(order.FulfillerParts{
		DB: other, Sales: w.Sales, Cache: w.Cache, Deadline: 0, Channels: orders.Channels(),
		OnCommit: func() {}, Log: slog.New(slog.DiscardHandler), Now: w.Cache.Now,
	})
	w.AdmitMany(many)

	var workers sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		workers.Go(func() { errs[i] = drainBy(w, []*order.Fulfiller{w.Fulfiller, second}[i%2]) })
	}
	workers.Wait()
	for i, err := range errs {
		require.NoError(t, err, fmt.Sprint("worker ", i))
	}
	require.Equal(t, map[string]int{"confirmed": many}, w.Count())
	require.Zero(t, w.Available())
	require.NoError(t, w.Canceller.Cancel(w.Ctx, orders.Sale, "order-0007", "user-0007"))
	w.CatchUp()
	require.EqualValues(t, 1, w.Available())
	w.Clean()
}

// drainBy fulfils small batches until the line is empty.
func drainBy(w *orders.World, f *order.Fulfiller) error {
	for {
		b, err := w.Line.Claim(w.Ctx, uuid.NewString(), 7, orders.Lease)
		if err != nil || len(b.Tickets) == 0 {
			return err
		}
		outcomes, err := f.Handle(w.Ctx, b)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Op != queue.OpConfirm {
				return fmt.Errorf("order %s ends with %c: %s", o.ID, o.Op, o.Reason)
			}
		}
		if err := w.Line.Settle(w.Ctx, b, outcomes); err != nil {
			return err
		}
	}
}
