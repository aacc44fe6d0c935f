package order_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

// A rule that somebody adds to the database refuses every failed row: nothing is buried that is not recorded.
func TestNothingIsBuriedThatIsNotRecorded(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		if w.db.Driver == store.SQLite {
			w.exec("CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.status = 'failed' BEGIN SELECT " +
				"RAISE(ABORT, 'no'); END")
		} else {
			w.exec("ALTER TABLE orders ADD CONSTRAINT refuse CHECK (status <> 'failed')")
		}
		ticket := w.admit("ann", 1)
		b := w.claim(1)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up after 5 attempts")
		require.Error(w.t, err, "it goes back")
		require.Empty(w.t, outcomes)
		var cause worker.Causer
		require.ErrorAs(w.t, err, &cause)
		require.NotContains(w.t, cause.Cause(), "ann")
		require.Empty(w.t, w.rows())

		if w.db.Driver == store.SQLite {
			w.exec("DROP TRIGGER refuse")
		} else {
			w.exec("ALTER TABLE orders DROP CONSTRAINT refuse")
		}
		outcomes, err = w.fulfiller.Bury(w.ctx, b, "gave up after 5 attempts")
		require.NoError(w.t, err)
		require.Equal(w.t, queue.OpDead, outcomes[0].Op)
		require.Equal(w.t, order.Failed, w.rows()[ticket.ID].Status)
		w.settle(b, byID(outcomes))
		w.clean()
	})
}

// What no ticket has caused is an error of the batch, also when a single ticket met it.
func TestARefusalOfTheStoreIsNoTicketsFault(t *testing.T) {
	eachDatabase(t, 10, 1, func(w *world) {
		w.admitMany(3)
		b := w.claim(3)
		w.exec("ALTER TABLE outbox RENAME TO elsewhere")
		for _, tickets := range [][]queue.Ticket{b.Tickets, b.Tickets[:1]} {
			one := queue.Batch{ID: uuid.NewString(), Sale: theSale, Epoch: b.Epoch, Tickets: tickets}
			outcomes, err := w.fulfiller.Handle(w.ctx, one)
			require.Error(w.t, err)
			require.Empty(w.t, outcomes)
			outcomes, err = w.fulfiller.Bury(w.ctx, one, "gave up")
			require.Error(w.t, err)
			require.Empty(w.t, outcomes)
		}
		require.Empty(w.t, w.rows())
		w.exec("ALTER TABLE elsewhere RENAME TO outbox")
		require.Equal(w.t, map[string]int{"c": 3}, ops(w.handle(b)))
		w.settle(b, w.handle(b))
		w.clean()
	})
}
