package order_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

// A rule that somebody adds to the database refuses every failed row: nothing is buried that is not recorded.
func TestNothingIsBuriedThatIsNotRecorded(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		if w.DB.Driver == store.SQLite {
			w.Exec("CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.status = 'failed' BEGIN SELECT " +
				"RAISE(ABORT, 'no'); END")
		} else {
			w.Exec("ALTER TABLE orders ADD CONSTRAINT refuse CHECK (status <> 'failed')")
		}
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up after 5 attempts")
		require.Error(w.T, err, "it goes back")
		require.Empty(w.T, outcomes)
		var cause worker.Causer
		require.ErrorAs(w.T, err, &cause)
		require.NotContains(w.T, cause.Cause(), "ann")
		require.Empty(w.T, w.Rows())

		if w.DB.Driver == store.SQLite {
			w.Exec("DROP TRIGGER refuse")
		} else {
			w.Exec("ALTER TABLE orders DROP CONSTRAINT refuse")
		}
		outcomes, err = w.Fulfiller.Bury(w.Ctx, b, "gave up after 5 attempts")
		require.NoError(w.T, err)
		require.Equal(w.T, queue.OpDead, outcomes[0].Op)
		require.Equal(w.T, order.Failed, w.Rows()[ticket.ID].Status)
		w.Settle(b, orders.ByID(outcomes))
		w.Clean()
	})
}

// What no ticket has caused is an error of the batch, also when a single ticket met it.
func TestARefusalOfTheStoreIsNoTicketsFault(t *testing.T) {
	orders.EachDatabase(t, 10, 1, func(w *orders.World) {
		w.AdmitMany(3)
		b := w.Claim(3)
		w.Exec("ALTER TABLE outbox RENAME TO elsewhere")
		for _, tickets := range [][]queue.Ticket{b.Tickets, b.Tickets[:1]} {
			one := queue.Batch{ID: uuid.NewString(), Sale: orders.Sale, Epoch: b.Epoch, Tickets: tickets}
			outcomes, err := w.Fulfiller.Handle(w.Ctx, one)
			require.Error(w.T, err)
			require.Empty(w.T, outcomes)
			outcomes, err = w.Fulfiller.Bury(w.Ctx, one, "gave up")
			require.Error(w.T, err)
			require.Empty(w.T, outcomes)
		}
		require.Empty(w.T, w.Rows())
		w.Exec("ALTER TABLE elsewhere RENAME TO outbox")
		require.Equal(w.T, map[string]int{"c": 3}, orders.Ops(w.Handle(b)))
		w.Settle(b, w.Handle(b))
		w.Clean()
	})
}

// A sale without a row is that line's fault, and no store's.
func TestASaleWithoutARowIsOfItsLine(t *testing.T) {
	w := orders.OnSQLite(t, 5, 1)
	w.Admit("ann", 1)
	b := w.Claim(1)
	b.Sale = "nowhere"
	_, err := w.Fulfiller.Handle(w.Ctx, b)
	require.ErrorIs(t, err, worker.ErrOfLine)
	require.NoError(t, w.DB.Close())
	_, err = w.Fulfiller.Handle(w.Ctx, b)
	require.NotErrorIs(t, err, worker.ErrOfLine)
}
