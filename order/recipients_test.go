package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/notify"
)

func TestRecipientsAreLookedUpForDelivery(t *testing.T) {
	eachDatabase(t, 1, 1, func(w *world) {
		won, lost := w.admit("ann", 1), w.try(theSale, w.request("bob", 1))
		w.work()
		found, err := w.finder.Recipients(w.ctx, []string{won.ID, lost.Ticket.ID, "unknown"})
		require.NoError(w.t, err)
		require.Equal(w.t, map[string]notify.Recipient{won.ID: {Email: "ann@example.com", SaleTitle: "Phone X", Status: "confirmed", Quantity: 1, PriceCents: 9900, Currency: "CNY"}}, found)
		require.NoError(w.t, w.db.Close())
		_, err = w.finder.Recipients(w.ctx, []string{won.ID})
		require.Error(w.t, err)
	})
}
