package lookup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
)

// Each line here that is broken lies beside what is well, and the test looks at what is well.
func TestALineThatCannotBeReadHidesNoOtherOrder(t *testing.T) {
	orders.EachDatabase(t, 10, 5, func(w *orders.World) {
		w.OpenSale("a-broken", 10, 1)
		w.OpenSale("z-broken", 10, 1)
		stored := w.Admit("ann", 1)
		w.Work()
		waiting := w.Admit("ann", 1)
		for _, sale := range []string{"a-broken", "z-broken"} {
			for _, name := range []string{"holders", "orders", "wait"} {
				w.BreakLine(sale, name)
			}
		}
		for range 2 {
			page, err := w.Finder.ListByUser(w.Ctx, "ann", nil, 10)
			require.NoError(w.T, err)
			require.Len(w.T, page.Orders, 2)
			require.Equal(w.T, []string{"a-broken", "z-broken"}, page.Unread, "what is left out is said")
			for id, status := range map[string]string{stored.ID: order.Confirmed, waiting.ID: order.Queued} {
				v, err := w.Finder.ByID(w.Ctx, id)
				require.NoError(w.T, err)
				require.Equal(w.T, status, v.Status)
			}
			_, err = w.Finder.ByID(w.Ctx, "order-9999")
			require.Error(w.T, err)
			require.NotErrorIs(w.T, err, order.ErrNotFound, "it may be in a line that cannot be read")
		}
	})
}
