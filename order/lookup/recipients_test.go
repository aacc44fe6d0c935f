package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify"
	"sluice/notify/channel"
)

// A shopper who must pay hears it in their language, with the deadline.
func TestRecipientsHaveLanguageAndDeadline(t *testing.T) {
	eachUnpaid(t, 2, 1, func(w *world) {
		r := w.request("ann", 1)
		r.Locale = channel.Chinese
		chinese := w.try(theSale, r).Ticket
		w.work()
		found, err := w.finder.Recipients(w.ctx, []string{chinese.ID})
		require.NoError(w.t, err)
		require.Equal(w.t, channel.Chinese, found[chinese.ID].Locale)
		require.Equal(w.t, w.rows()[chinese.ID].PayBy, found[chinese.ID].PayBy.UnixMilli())
		require.WithinDuration(w.t, time.Now().Add(time.Hour), found[chinese.ID].PayBy, time.Minute)
	})
}

func TestRecipientsAreLookedUpForDelivery(t *testing.T) {
	eachDatabase(t, 1, 1, func(w *world) {
		won, lost := w.admit("ann", 1), w.try(theSale, w.request("bob", 1))
		w.work()
		found, err := w.finder.Recipients(w.ctx, []string{won.ID, lost.Ticket.ID, "unknown"})
		require.NoError(w.t, err)
		require.Equal(w.t, map[string]notify.Recipient{won.ID: {Email: "ann@example.com", SaleTitle: "Phone X",
			Status: "confirmed", Quantity: 1, PriceCents: 9900, Currency: "CNY"}}, found)
		require.NoError(w.t, w.db.Close())
		_, err = w.finder.Recipients(w.ctx, []string{won.ID})
		require.Error(w.t, err)
	})
}
