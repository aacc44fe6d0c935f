package order_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

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

// A commit whose reply is lost makes the transaction run again within the same
// call: the rows it finds are its own and must not take stock again.
func TestLostCommitReplyTakesNothingTwice(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		w.AdmitMany(10)
		b := w.Claim(10)
		wire := &lossyPool{ConnPool: w.DB.Write.Statement.ConnPool, lose: 1}
		w.DB.Write.Statement.ConnPool = wire
		require.Equal(w.T, map[string]int{"c": 10}, orders.Ops(w.Handle(b)))
		require.Equal(w.T, 2, wire.begun, "the transaction ran twice")
		require.EqualValues(w.T, 990, w.Available())
		require.Equal(w.T, map[string]int{"confirmed": 10}, w.Count())
		w.Settle(b, w.Handle(b))
		w.Clean()
	})
}

// lossyPool commits, but answers the first commits as a database does that
// asks for the transaction to be run again.
type lossyPool struct {
	gorm.ConnPool
	lose, begun int
}

func (p *lossyPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	p.begun++
	beginner, ok := p.ConnPool.(gorm.TxBeginner)
	if !ok {
		return nil, sql.ErrConnDone
	}
	tx, err := beginner.BeginTx(ctx, opts)
	return &lossyTx{Tx: tx, pool: p}, err
}

type lossyTx struct {
	*sql.Tx
	pool *lossyPool
}

func (t *lossyTx) Commit() error {
	err := t.Tx.Commit()
	if err == nil && t.pool.lose > 0 {
		t.pool.lose--
		return &pgconn.PgError{Code: "40001"}
	}
	return err
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

// Redis forgot what a user holds and admits another order: the database does
// not forget.
func TestUserWhoHoldsAnOrderFails(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		held := w.Admit("ann", 1)
		w.Work()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:holders", "ann").Err())
		second := w.Admit("ann", 1)
		w.AdmitMany(5)
		b := w.Claim(10)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 5, "f" + order.ReasonLimit: 1}, orders.Ops(outcomes))
		require.Equal(w.T, queue.Outcome{ID: second.ID, Op: queue.OpFail, Reason: order.ReasonLimit},
			timeless(outcomes[second.ID]))
		row := w.Rows()[second.ID]
		require.Equal(w.T, order.Failed, row.Status)
		require.Equal(w.T, order.ReasonLimit, row.Reason)
		require.Nil(w.T, row.Slot)
		require.Positive(w.T, row.EndedAt)
		require.Zero(w.T, row.ConfirmedAt)
		require.Equal(w.T, order.Confirmed, w.Rows()[held.ID].Status)
		require.Equal(w.T, timelessAll(outcomes), timelessAll(w.Handle(b)), "a second delivery is answered alike")
		require.Equal(w.T, map[string]int{"order.confirmed stream": 6, "order.confirmed email": 6,
			"order.failed stream": 1, "order.failed email": 1}, w.News())
		w.Settle(b, outcomes)
		require.EqualValues(w.T, 6, w.Clean().Live)
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

// The limit is three units; Redis forgot an order of two, so the slot of the
// next order is free in the line but its units are not.
func TestLimitCountsUnitsThatRedisForgot(t *testing.T) {
	orders.EachDatabase(t, 100, 3, func(w *orders.World) {
		w.Admit("ann", 2)
		w.Work()
		require.NoError(w.T, w.Redis.HDel(w.Ctx, "sluice:{sale/0}:holders", "ann").Err())
		// Redis gives out slot 1 again; a slot of its own would even pass the unique key.
		second := w.Admit("ann", 2)
		w.Admit("bob", 3)
		b := w.Claim(2)
		for i := range b.Tickets {
			if b.Tickets[i].ID == second.ID {
				b.Tickets[i].Slot = 2
			}
		}
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 1, "f" + order.ReasonLimit: 1}, orders.Ops(outcomes))
		require.Equal(w.T, queue.OpFail, outcomes[second.ID].Op)
		require.EqualValues(w.T, 95, w.Available())
		require.Equal(w.T, order.Failed, w.Rows()[second.ID].Status)
		w.Settle(b, outcomes)

		third := w.Admit("ann", 1) // one more unit is within the limit
		b = w.Claim(1)
		b.Tickets[0].Slot = 2
		require.Equal(w.T, queue.OpConfirm, w.Handle(b)[third.ID].Op)
	})
}

// The cache is refreshed only now and then; the limit that counts is the
// sale's own.
func TestRaisedLimitCountsAtOnce(t *testing.T) {
	orders.EachDatabase(t, 100, 2, func(w *orders.World) {
		w.Admit("ann", 2)
		w.Work()
		raised := 3
		_, _, err := w.Sales.Update(w.Ctx, orders.Sale, inventory.Change{PerUserLimit: &raised}, "test", "")
		require.NoError(w.T, err)
		require.NoError(w.T, w.Reconciler.Reconcile(w.Ctx))
		third := w.Admit("ann", 1)
		b := w.Claim(1)
		require.Equal(w.T, queue.OpConfirm, w.Handle(b)[third.ID].Op)
	})
}

func TestCancelledTicketIsRecorded(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		w.AdmitMany(3)
		gone := w.Admit("ann", 1)
		require.NoError(w.T, w.Line.Cancel(w.Ctx, gone.ID, "ann"))
		b := w.Claim(4)
		outcomes := w.Handle(b)
		require.Equal(w.T, map[string]int{"c": 3, "k": 1}, orders.Ops(outcomes))
		require.EqualValues(w.T, 97, w.Available())
		row := w.Rows()[gone.ID]
		require.Equal(w.T, order.Cancelled, row.Status)
		require.Nil(w.T, row.Slot)
		require.Equal(w.T, 1, row.Released, "its unit came back when it was cancelled")
		require.Positive(w.T, row.EndedAt)
		require.Equal(w.T, outcomes, w.Handle(b))
		buried, err := w.Fulfiller.Bury(w.Ctx, queue.Batch{Sale: orders.Sale, Epoch: b.Epoch, Tickets: b.Tickets[3:]},
			"gave up")
		require.NoError(w.T, err)
		require.Equal(w.T, queue.OpClose, buried[0].Op)
		w.Settle(b, outcomes)
		require.Equal(w.T, map[string]int{"order.confirmed stream": 3, "order.confirmed email": 3,
			"order.cancelled stream": 1, "order.cancelled email": 1}, w.News())
		w.Clean()
	})
}

// A worker that fell asleep before its line was rebuilt must not commit
// behind the back of the rebuild, which did not count its tickets.
func TestWorkerFromBeforeARebuildIsRefused(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		w.AdmitMany(5)
		b := w.Claim(5)
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
		require.Error(w.T, err, "%v", outcomes)
		require.Empty(w.T, outcomes)
		require.Empty(w.T, w.Rows())
		require.EqualValues(w.T, 100, w.Clean().LineStock)
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

// timeless leaves out when it happened.
// timeless leaves out when it was, by clock and by the ledger's changes.
func timeless(o queue.Outcome) queue.Outcome {
	o.At, o.Ledger = time.Time{}, 0
	return o
}

// A ticket whose order was made and then cancelled, before its settle got
// through, ends as cancelled for its owner, and its unit returns once.
func TestTicketOfACancelledOrderEndsAsCancelled(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		ticket := w.Admit("ann", 1)
		b := w.Claim(1)
		w.Handle(b) // committed, but never settled
		w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = ? WHERE id = ?",
			time.Now().UnixMilli(), ticket.ID)
		w.Exec("UPDATE stock SET available = available + 1")
		w.EndLease(b)
		again := w.Claim(1)
		outcomes := w.Handle(again)
		require.Equal(w.T, queue.OpEnded, outcomes[ticket.ID].Op)
		w.Settle(again, outcomes)
		views, err := w.Finder.Many(w.Ctx, orders.Sale, []string{ticket.ID})
		require.NoError(w.T, err)
		require.Equal(w.T, order.Cancelled, views[ticket.ID].Status)
		require.Equal(w.T, w.Rows()[ticket.ID].EndedAt, views[ticket.ID].EndedAt.UnixMilli(),
			"both stores tell the same time")
		w.CatchUp()
		require.EqualValues(w.T, 5, w.Clean().LineStock)
	})
}

// What a rebuild brings back of an ended order still answers a repeated
// request, and still refuses another payload.
func TestReplayOfAnEndedOrderOutlivesARebuild(t *testing.T) {
	orders.EachDatabase(t, 5, 1, func(w *orders.World) {
		request := w.Request("ann", 1)
		first := w.Try(orders.Sale, request)
		require.NoError(w.T, first.Err)
		w.Work()
		require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, request.ID, "ann"))
		require.NoError(w.T, w.Redis.FlushAll(w.Ctx).Err())
		w.CatchUp()
		again := w.Try(orders.Sale, request)
		require.True(w.T, again.Replayed)
		require.Equal(w.T, queue.Cancelled, again.Ticket.State)
		require.Equal(w.T, []int64{first.Ticket.Position, first.Ticket.ETASeconds},
			[]int64{again.Ticket.Position, again.Ticket.ETASeconds})
		request.Fingerprint = "another"
		require.ErrorIs(w.T, w.Try(orders.Sale, request).Err, queue.ErrMismatch)
		require.EqualValues(w.T, 5, w.Clean().LineStock)
	})
}

func timelessAll(outcomes map[string]queue.Outcome) map[string]queue.Outcome {
	all := make(map[string]queue.Outcome, len(outcomes))
	for id, o := range outcomes {
		all[id] = timeless(o)
	}
	return all
}
