package lookup_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/notify"
	"sluice/notify/channel"
	"sluice/order"
)

// A shopper who must pay hears it in their language, with the deadline.
func TestRecipientsHaveLanguageAndDeadline(t *testing.T) {
	orders.EachUnpaid(t, 2, 1, func(w *orders.World) {
		r := w.Request("ann", 1)
		r.Locale = channel.Chinese
		chinese := w.Try(orders.Sale, r).Ticket
		w.Work()
		found, err := w.Finder.Recipients(w.Ctx, []string{chinese.ID})
		require.NoError(w.T, err)
		require.Equal(w.T, channel.Chinese, found[chinese.ID].Locale)
		require.Equal(w.T, w.Rows()[chinese.ID].PayBy, found[chinese.ID].PayBy.UnixMilli())
		require.WithinDuration(w.T, time.Now().Add(time.Hour), found[chinese.ID].PayBy, time.Minute)
	})
}

func TestRecipientsAreLookedUpForDelivery(t *testing.T) {
	orders.EachDatabase(t, 1, 1, func(w *orders.World) {
		won, lost := w.Admit("ann", 1), w.Try(orders.Sale, w.Request("bob", 1))
		w.Work()
		found, err := w.Finder.Recipients(w.Ctx, []string{won.ID, lost.Ticket.ID, "unknown"})
		require.NoError(w.T, err)
		require.Equal(w.T, map[string]notify.Recipient{won.ID: {Email: "ann@example.com", SaleTitle: "Phone X",
			Facts: notify.Facts{Status: "confirmed", Quantity: 1, PriceCents: 9900, Currency: "CNY",
				AdmittedAt: won.AdmittedAt, ConfirmedAt: order.Time(w.Rows()[won.ID].ConfirmedAt)}}}, found)
		require.NoError(w.T, w.DB.Close())
		_, err = w.Finder.Recipients(w.Ctx, []string{won.ID})
		require.Error(w.T, err)
	})
}
