package order_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

func TestBatchBecomesOrders(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		w.AdmitMany(40)
		b := w.Claim(40)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 40}, orders.Ops(outcomes))
		require.EqualValues(w.T, 960, w.Available())
		require.Equal(w.T, map[string]int{"order.confirmed stream": 40, "order.confirmed email": 40}, w.News())
		require.EqualValues(w.T, 1, w.Commits.Load(), "announced once, after the commit")

		ticket, row := b.Tickets[7], w.Rows()[b.Tickets[7].ID]
		require.NotEmpty(w.T, row.BatchID)
		require.Positive(w.T, row.ConfirmedAt)
		require.Equal(w.T, order.Row{ID: ticket.ID, SaleID: orders.Sale, UserID: ticket.User, Slot: &ticket.Slot,
			Quantity: 1, PriceCents: 9900, Currency: "CNY",
			Status: order.Confirmed, Email: ticket.Email, Seq: 8, Epoch: b.Epoch, BatchID: row.BatchID,
			Fingerprint: "print", Position: ticket.Position, ETASeconds: ticket.ETASeconds, Released: 1,
			AdmittedAt: ticket.AdmittedAt.UnixMilli(), ConfirmedAt: row.ConfirmedAt}, row)

		// The settle was lost: the same tickets come again, to this worker or another.
		require.Equal(w.T, map[string]int{"c": 40}, orders.Ops(w.Handle(b)))
		w.EndLease(b)
		for range 40 {
			again := w.Claim(1)
			require.True(w.T, again.Solo)
			w.Settle(again, w.Handle(again))
		}
		require.EqualValues(w.T, 960, w.Available())
		require.Equal(w.T, map[string]int{"confirmed": 40}, w.Count())
		require.Equal(w.T, 80, w.News()["order.confirmed stream"]+w.News()["order.confirmed email"])
		require.EqualValues(w.T, 40, w.Clean().Live)
	})
}

func TestTwoWorkersWithTheSameTickets(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		for round := range 4 {
			w.AdmitMany(30)
			b := w.Claim(30)
			reversed := b
			reversed.Tickets = nil
			for i := range b.Tickets {
				reversed.Tickets = append(reversed.Tickets, b.Tickets[len(b.Tickets)-1-i])
			}
			var workers sync.WaitGroup
			answers := make([][]queue.Outcome, 4)
			errs := make([]error, 4)
			for i := range answers {
				workers.Go(func() {
					mine := b
					if i%2 == 1 {
						mine = reversed // the order in which deadlocks are made
					}
					answers[i], errs[i] = w.Fulfiller.Handle(w.Ctx, mine)
				})
			}
			workers.Wait()
			for i := range answers {
				require.NoError(w.T, errs[i], "a deadlock is retried, not reported")
				require.Equal(w.T, map[string]int{"c": 30}, orders.Ops(orders.ByID(answers[i])))
			}
			w.Settle(b, orders.ByID(answers[0]))
			require.EqualValues(w.T, 1000-30*(round+1), w.Available())
		}
		require.Equal(w.T, map[string]int{"confirmed": 120}, w.Count())
		require.EqualValues(w.T, 120, w.Clean().Live)
	})
}

// An operator took units away that were already promised to tickets.
func TestBatchLargerThanTheLedger(t *testing.T) {
	orders.EachDatabase(t, 20, 1, func(w *orders.World) {
		w.AdmitMany(20)
		_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: -13, Actor: "test",
			Reason: "damaged"})
		require.NoError(w.T, err)
		w.CatchUp()
		b := w.Claim(20)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 7, "f" + order.ReasonSoldOut: 13}, orders.Ops(outcomes))
		require.Zero(w.T, w.Available())
		require.Equal(w.T, map[string]int{"confirmed": 7, "failed": 13}, w.Count())
		require.Equal(w.T, timelessAll(outcomes), timelessAll(w.Handle(b)))
		w.Settle(b, outcomes)
		require.Zero(w.T, w.View().Stock)
		w.Clean()
	})
}

func TestBadTicketHurtsOnlyItself(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		spoil := map[string]func(*queue.Ticket){
			"long e-mail": func(t *queue.Ticket) { t.Email = strings.Repeat("x", 300) },
			"long user":   func(t *queue.Ticket) { t.User = strings.Repeat("u", 200) },
			"long locale": func(t *queue.Ticket) { t.Locale = strings.Repeat("l", 30) },
			"long print":  func(t *queue.Ticket) { t.Fingerprint = strings.Repeat("f", 30) },
		}
		if w.DB.Driver == store.Postgres {
			spoil["NUL in the user"] = func(t *queue.Ticket) { t.User = "a\x00b" }
			spoil["NUL byte"] = func(t *queue.Ticket) { t.Email = "a\x00b" }
		}
		if w.DB.Driver != store.SQLite {
			spoil["not UTF-8"] = func(t *queue.Ticket) { t.Email = "a\xffb" }
		}
		for name, change := range spoil {
			before := w.Count()[order.Confirmed]
			w.AdmitMany(9)
			b := w.Claim(9)
			bad := &b.Tickets[4]
			change(bad)
			outcomes := w.Handle(b)
			require.Equal(w.T, map[string]int{"c": 8, "r": 1}, orders.Ops(outcomes), name)
			require.Equal(w.T, queue.OpRetry, outcomes[bad.ID].Op, name)
			require.Equal(w.T, before+8, w.Count()[order.Confirmed], name)
			require.NotContains(w.T, w.Rows(), bad.ID)

			solo := queue.Batch{ID: uuid.NewString(), Sale: orders.Sale, Epoch: b.Epoch, Solo: true,
				Tickets: []queue.Ticket{*bad}}
			buried, err := w.Fulfiller.Bury(w.Ctx, solo, "gave up after 5 attempts")
			require.NoError(w.T, err)
			require.Equal(w.T, queue.Outcome{ID: bad.ID, Op: queue.OpDead, Reason: order.ReasonGaveUp},
				timeless(buried[0]))
			row := w.Rows()[bad.ID]
			require.Equal(w.T, order.Failed, row.Status, "%s: its owner can learn its fate from the database", name)
			require.Equal(w.T, order.ReasonGaveUp, row.Reason)
			require.Equal(w.T, name != "long user" && name != "NUL in the user", row.UserID == bad.User, name)
			outcomes[bad.ID] = buried[0]
			w.Settle(b, outcomes)
		}
		require.EqualValues(w.T, len(spoil), w.View().Dead)
		w.Clean()
	})
}

func TestBuryFindsTheOrderAfterAll(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		w.AdmitMany(2)
		b := w.Claim(2)
		b.Tickets = b.Tickets[:1]
		w.Handle(b)
		outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up")
		require.NoError(w.T, err)
		require.Len(w.T, outcomes, 1)
		require.False(w.T, outcomes[0].At.IsZero(), "the line learns when it was confirmed")
		require.Equal(w.T, queue.Outcome{ID: b.Tickets[0].ID, Op: queue.OpConfirm}, timeless(outcomes[0]))
		require.Equal(w.T, map[string]int{"confirmed": 1}, w.Count())
	})
}

func TestDatabaseDiesAndComesBack(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *testkit.DatabaseServer{testkit.PrivateMySQL, testkit.PrivatePostgres} {
		server := start(t)
		t.Run(server.Database().Driver, func(t *testing.T) {
			w := orders.New(t, server.Database(), testkit.Embedded(t).Addr(), 100, 1)
			w.AdmitMany(10)
			b := w.Claim(10)
			server.Kill()
			outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
			require.Error(t, err)
			require.Empty(t, outcomes, "nobody's ticket is to blame")
			outcomes, err = w.Fulfiller.Bury(w.Ctx, b, "gave up")
			require.Error(t, err)
			require.Empty(t, outcomes)
			require.Error(t, w.Canceller.Cancel(w.Ctx, orders.Sale, "order-9999", "ann"))
			server.Start()
			require.Eventually(t, func() bool { return w.DB.Ping(w.Ctx) == nil }, orders.Soon, 10*time.Millisecond)
			require.Equal(t, map[string]int{"c": 10}, orders.Ops(w.Handle(b)))
			w.Settle(b, w.Handle(b))
			require.EqualValues(t, 90, w.Available())
			w.Clean()
		})
	}
}

func TestUnknownSaleIsAFault(t *testing.T) {
	w := orders.OnSQLite(t, 1, 1)
	_, err := w.Fulfiller.Handle(w.Ctx, queue.Batch{Sale: "nowhere",
		Tickets: []queue.Ticket{{ID: "a", User: "ann", Units: 1, Slot: 1}}})
	require.Error(t, err)
	_, err = w.Fulfiller.Bury(w.Ctx, queue.Batch{Sale: "nowhere"}, "gave up")
	require.Error(t, err)
}
