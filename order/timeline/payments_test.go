package timeline_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/order/payment"
)

// What was paid, and what must go back, is part of an order's way.
func TestPaymentsAreInTheTimeline(t *testing.T) {
	orders.EachUnpaid(t, 1, 1, func(w *orders.World) {
		one := w.Confirm("ann", 1)
		for _, p := range []payment.Payment{{ID: "less", AmountCents: 105, Currency: "CNY"}, orders.Pays(one.ID, 1),
			{ID: "again", AmountCents: 9900, Currency: "CNY"}} {
			_, err := w.Pay(one.ID, p)
			require.NoError(w.T, err)
		}
		shown, err := w.Timelines().Of(w.Ctx, one.ID)
		require.NoError(w.T, err)
		steps := map[string]string{}
		for _, e := range shown.Events {
			steps[e.Step] = e.Reason
			if e.Step == order.Paid {
				require.Equal(w.T, w.Rows()[one.ID].PaidAt, e.At.UnixMilli())
			}
		}
		require.Contains(w.T, steps, order.Paid)
		require.Equal(w.T, "less: 1.05 CNY", steps["payment mismatch"])
		require.Equal(w.T, "again: 99.00 CNY", steps["payment refund_required"])
	})
}
