package lookup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/notify"
	"sluice/notify/form"
	"sluice/order"
	"sluice/order/payment"
)

// eventsNow returns what every event of the outbox says at this moment, by its id.
func eventsNow(w *orders.World) map[string]form.Event {
	var rows []notify.Row
	require.NoError(w.T, w.DB.Read.Where("channel = ?", "stream").Find(&rows).Error)
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.OrderID
	}
	ledger, err := w.Finder.Facts(w.Ctx, ids)
	require.NoError(w.T, err)
	events := map[string]form.Event{}
	for _, r := range rows {
		m := notify.Message{OrderID: r.OrderID, Event: r.Event, SaleID: r.SaleID, UserID: r.UserID,
			CreatedAt: order.Time(r.CreatedAt)}
		events[m.ID()] = form.In(ledger, m)
	}
	return events
}

// An event says how the order stood when it happened, at whatever delivery: also one that comes after the order has
// gone on, or was paid again.
func TestAnEventSaysTheSameAtEveryDelivery(t *testing.T) {
	orders.EachUnpaid(t, 9, 9, func(w *orders.World) {
		told := map[string]form.Event{}
		look := func() {
			now := eventsNow(w)
			for id, e := range told {
				require.Equal(w.T, e, now[id], "%s has changed", id)
			}
			told = now
		}
		pay := func(id, name string, cents int64) {
			_, err := w.Pay(id, payment.Payment{ID: name, AmountCents: cents, Currency: "CNY"})
			require.NoError(w.T, err)
			look()
		}
		paid := w.Confirm("ann", 2)
		look()
		pay(paid.ID, "less", 1) // a refund while it is confirmed
		pay(paid.ID, "whole", 2*9900)
		again := w.Confirm("bob", 1)
		look()
		pay(again.ID, "first", 9900)
		pay(again.ID, "second", 9900)
		late := w.Expire("cid", 1)
		look()
		pay(late.ID, "late", 9900)
		cancelled := w.Confirm("dan", 1)
		look()
		require.NoError(w.T, w.Cancel(cancelled.ID, "dan"))
		look()
		pay(cancelled.ID, "ended", 9900)
		buried := w.Bury("eve", 1)
		look()
		require.NoError(w.T, w.DeadLetters().Requeue(w.Ctx, orders.Sale, buried.ID, "olga", "mended"))
		w.Work()
		require.Equal(w.T, order.Confirmed, w.Rows()[buried.ID].Status)
		look()

		says := map[string]string{}
		for id, e := range told {
			require.Equal(w.T, form.Version, e.Version)
			require.Equal(w.T, []any{int64(9900), "CNY"}, []any{e.Data.PriceCents, e.Data.Currency})
			require.NotEmpty(w.T, e.Data.AdmittedAt)
			says[id] = e.Data.Status + " " + e.Data.Reason + e.Data.Refund
		}
		require.Equal(w.T, map[string]string{
			paid.ID + ":order.confirmed": "confirmed ", paid.ID + ":order.refund_required": "confirmed amount",
			paid.ID + ":order.paid": "paid ", again.ID + ":order.confirmed": "confirmed ",
			again.ID + ":order.paid": "paid ", again.ID + ":order.refund_required": "paid again",
			late.ID + ":order.confirmed": "confirmed ", late.ID + ":order.expired": "expired ",
			late.ID + ":order.paid": "paid ", cancelled.ID + ":order.confirmed": "confirmed ",
			cancelled.ID + ":order.cancelled": "cancelled ", cancelled.ID + ":order.refund_required": "cancelled ended",
			buried.ID + ":order.failed": "failed internal_error", buried.ID + ":order.confirmed": "confirmed ",
		}, says)
		row := w.Rows()[paid.ID]
		require.Equal(w.T, form.Facts{Status: "paid", Quantity: 2, PriceCents: 9900, Currency: "CNY",
			AdmittedAt: form.FormatTime(order.Time(row.AdmittedAt)), PayBy: form.FormatTime(order.Time(row.PayBy)),
			ConfirmedAt: form.FormatTime(order.Time(row.ConfirmedAt)), PaidAt: form.FormatTime(order.Time(row.PaidAt))},
			*told[paid.ID+":order.paid"].Data.Facts)
		require.Equal(w.T, told[late.ID+":order.expired"].Timestamp, told[late.ID+":order.expired"].Data.EndedAt,
			"although it was paid since")
	})
}

// The database may not know an order any more. Its events are told with what the outbox knows.
func TestAnEventOfAnUnknownOrder(t *testing.T) {
	w := orders.OnSQLite(t, 1, 1)
	m := notify.Message{OrderID: "gone", Event: notify.EventPaid, SaleID: "s", UserID: "u"}
	ledger, err := w.Finder.Facts(w.Ctx, []string{"gone"})
	require.NoError(t, err)
	require.Equal(t, form.Bare(m), form.In(ledger, m))
	require.NoError(t, w.DB.Close())
	_, err = w.Finder.Facts(w.Ctx, []string{"gone"})
	require.Error(t, err)
}
