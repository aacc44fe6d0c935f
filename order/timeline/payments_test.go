package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/order"
)

// What was paid, and what must go back, is part of an order's way.
func TestPaymentsAreInTheTimeline(t *testing.T) {
	eachUnpaid(t, 1, 1, func(w *world) {
		one := w.confirm("ann", 1)
		for _, p := range []order.Payment{{ID: "less", AmountCents: 105, Currency: "CNY"}, pays(one.ID, 1),
			{ID: "again", AmountCents: 9900, Currency: "CNY"}} {
			_, err := w.pay(one.ID, p)
			require.NoError(w.t, err)
		}
		told, err := order.NewTimelines(w.db, w.lines, w.finder).Of(w.ctx, one.ID)
		require.NoError(w.t, err)
		steps := map[string]string{}
		for _, e := range told.Events {
			steps[e.Step] = e.Reason
			if e.Step == order.Paid {
				require.Equal(w.t, w.rows()[one.ID].PaidAt, e.At.UnixMilli())
			}
		}
		require.Contains(w.t, steps, order.Paid)
		require.Equal(w.t, "less: 1.05 CNY", steps["payment mismatch"])
		require.Equal(w.t, "again: 99.00 CNY", steps["payment refund_required"])
	})
}
