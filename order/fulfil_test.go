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
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

func TestBatchBecomesOrders(t *testing.T) {
	eachDatabase(t, 1000, 1, func(w *world) {
		w.admitMany(40)
		b := w.claim(40)
		outcomes := w.handle(b)
		require.Equal(w.t, map[string]int{"c": 40}, ops(outcomes))
		require.EqualValues(w.t, 960, w.available())
		require.Equal(w.t, map[string]int{"order.confirmed stream": 40, "order.confirmed email": 40}, w.news())
		require.EqualValues(w.t, 1, w.told.Load(), "told once, after the commit")

		ticket, row := b.Tickets[7], w.rows()[b.Tickets[7].ID]
		require.NotEmpty(w.t, row.BatchID)
		require.Positive(w.t, row.ConfirmedAt)
		require.Equal(w.t, order.Row{ID: ticket.ID, SaleID: theSale, UserID: ticket.User, Slot: &ticket.Slot,
			Quantity: 1, PriceCents: 9900, Currency: "CNY",
			Status: order.Confirmed, Email: ticket.Email, Seq: 8, Epoch: b.Epoch, BatchID: row.BatchID,
			Fingerprint: "print", Position: ticket.Position, ETASeconds: ticket.ETASeconds, Released: 1,
			AdmittedAt: ticket.AdmittedAt.UnixMilli(), ConfirmedAt: row.ConfirmedAt}, row)

		// The settle was lost: the same tickets come again, to this worker or another.
		require.Equal(w.t, map[string]int{"c": 40}, ops(w.handle(b)))
		w.expire(b)
		for range 40 {
			again := w.claim(1)
			require.True(w.t, again.Solo)
			w.settle(again, w.handle(again))
		}
		require.EqualValues(w.t, 960, w.available())
		require.Equal(w.t, map[string]int{"confirmed": 40}, w.count())
		require.Equal(w.t, 80, w.news()["order.confirmed stream"]+w.news()["order.confirmed email"])
		require.EqualValues(w.t, 40, w.clean().Live)
	})
}

// A commit whose reply is lost makes the transaction run again within the same
// call: the rows it finds are its own and must not take stock again.
func TestLostCommitReplyTakesNothingTwice(t *testing.T) {
	eachDatabase(t, 1000, 1, func(w *world) {
		w.admitMany(10)
		b := w.claim(10)
		wire := &lossyPool{ConnPool: w.db.Write.Statement.ConnPool, lose: 1}
		w.db.Write.Statement.ConnPool = wire
		require.Equal(w.t, map[string]int{"c": 10}, ops(w.handle(b)))
		require.Equal(w.t, 2, wire.begun, "the transaction ran twice")
		require.EqualValues(w.t, 990, w.available())
		require.Equal(w.t, map[string]int{"confirmed": 10}, w.count())
		w.settle(b, w.handle(b))
		w.clean()
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
	eachDatabase(t, 1000, 1, func(w *world) {
		for round := range 4 {
			w.admitMany(30)
			b := w.claim(30)
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
					answers[i], errs[i] = w.fulfiller.Handle(w.ctx, mine)
				})
			}
			workers.Wait()
			for i := range answers {
				require.NoError(w.t, errs[i], "a deadlock is retried, not reported")
				require.Equal(w.t, map[string]int{"c": 30}, ops(byID(answers[i])))
			}
			w.settle(b, byID(answers[0]))
			require.EqualValues(w.t, 1000-30*(round+1), w.available())
		}
		require.Equal(w.t, map[string]int{"confirmed": 120}, w.count())
		require.EqualValues(w.t, 120, w.clean().Live)
	})
}

// Redis forgot what a user holds and admits another order: the database does
// not forget.
func TestUserWhoHoldsAnOrderFails(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		held := w.admit("ann", 1)
		w.work()
		require.NoError(w.t, w.rdb.HDel(w.ctx, "sluice:{sale/0}:holders", "ann").Err())
		second := w.admit("ann", 1)
		w.admitMany(5)
		b := w.claim(10)
		outcomes := w.handle(b)
		require.Equal(w.t, map[string]int{"c": 5, "f" + order.ReasonLimit: 1}, ops(outcomes))
		require.Equal(w.t, queue.Outcome{ID: second.ID, Op: queue.OpFail, Reason: order.ReasonLimit},
			timeless(outcomes[second.ID]))
		row := w.rows()[second.ID]
		require.Equal(w.t, order.Failed, row.Status)
		require.Equal(w.t, order.ReasonLimit, row.Reason)
		require.Nil(w.t, row.Slot)
		require.Positive(w.t, row.EndedAt)
		require.Zero(w.t, row.ConfirmedAt)
		require.Equal(w.t, order.Confirmed, w.rows()[held.ID].Status)
		require.Equal(w.t, timelessAll(outcomes), timelessAll(w.handle(b)), "a second delivery is answered alike")
		require.Equal(w.t, map[string]int{"order.confirmed stream": 6, "order.confirmed email": 6,
			"order.failed stream": 1, "order.failed email": 1}, w.news())
		w.settle(b, outcomes)
		require.EqualValues(w.t, 6, w.clean().Live)
	})
}

// An operator took units away that were already promised to tickets.
func TestBatchLargerThanTheLedger(t *testing.T) {
	eachDatabase(t, 20, 1, func(w *world) {
		w.admitMany(20)
		_, err := w.sales.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: -13, Actor: "test",
			Reason: "damaged"})
		require.NoError(w.t, err)
		w.keep()
		b := w.claim(20)
		outcomes := w.handle(b)
		require.Equal(w.t, map[string]int{"c": 7, "f" + order.ReasonSoldOut: 13}, ops(outcomes))
		require.Zero(w.t, w.available())
		require.Equal(w.t, map[string]int{"confirmed": 7, "failed": 13}, w.count())
		require.Equal(w.t, timelessAll(outcomes), timelessAll(w.handle(b)))
		w.settle(b, outcomes)
		require.Zero(w.t, w.view().Stock)
		w.clean()
	})
}

func TestBadTicketHurtsOnlyItself(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		spoil := map[string]func(*queue.Ticket){
			"long e-mail": func(t *queue.Ticket) { t.Email = strings.Repeat("x", 300) },
			"long user":   func(t *queue.Ticket) { t.User = strings.Repeat("u", 200) },
			"long locale": func(t *queue.Ticket) { t.Locale = strings.Repeat("l", 30) },
			"long print":  func(t *queue.Ticket) { t.Fingerprint = strings.Repeat("f", 30) },
		}
		if w.db.Driver == store.Postgres {
			spoil["NUL in the user"] = func(t *queue.Ticket) { t.User = "a\x00b" }
			spoil["NUL byte"] = func(t *queue.Ticket) { t.Email = "a\x00b" }
		}
		if w.db.Driver != store.SQLite {
			spoil["not UTF-8"] = func(t *queue.Ticket) { t.Email = "a\xffb" }
		}
		for name, change := range spoil {
			before := w.count()[order.Confirmed]
			w.admitMany(9)
			b := w.claim(9)
			bad := &b.Tickets[4]
			change(bad)
			outcomes := w.handle(b)
			require.Equal(w.t, map[string]int{"c": 8, "r": 1}, ops(outcomes), name)
			require.Equal(w.t, queue.OpRetry, outcomes[bad.ID].Op, name)
			require.Equal(w.t, before+8, w.count()[order.Confirmed], name)
			require.NotContains(w.t, w.rows(), bad.ID)

			alone := queue.Batch{ID: uuid.NewString(), Sale: theSale, Epoch: b.Epoch, Solo: true,
				Tickets: []queue.Ticket{*bad}}
			buried, err := w.fulfiller.Bury(w.ctx, alone, "gave up after 5 attempts")
			require.NoError(w.t, err)
			require.Equal(w.t, queue.Outcome{ID: bad.ID, Op: queue.OpDead, Reason: order.ReasonGaveUp},
				timeless(buried[0]))
			row := w.rows()[bad.ID]
			require.Equal(w.t, order.Failed, row.Status, "%s: its owner can learn its fate from the database", name)
			require.Equal(w.t, order.ReasonGaveUp, row.Reason)
			require.Equal(w.t, name != "long user" && name != "NUL in the user", row.UserID == bad.User, name)
			outcomes[bad.ID] = buried[0]
			w.settle(b, outcomes)
		}
		require.EqualValues(w.t, len(spoil), w.view().Dead)
		w.clean()
	})
}

func TestBuryFindsTheOrderAfterAll(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		w.admitMany(2)
		b := w.claim(2)
		b.Tickets = b.Tickets[:1]
		w.handle(b)
		outcomes, err := w.fulfiller.Bury(w.ctx, b, "gave up")
		require.NoError(w.t, err)
		require.Len(w.t, outcomes, 1)
		require.False(w.t, outcomes[0].At.IsZero(), "the line learns when it was confirmed")
		require.Equal(w.t, queue.Outcome{ID: b.Tickets[0].ID, Op: queue.OpConfirm}, timeless(outcomes[0]))
		require.Equal(w.t, map[string]int{"confirmed": 1}, w.count())
	})
}

// The limit is three units; Redis forgot an order of two, so the slot of the
// next order is free in the line but its units are not.
func TestLimitCountsUnitsThatRedisForgot(t *testing.T) {
	eachDatabase(t, 100, 3, func(w *world) {
		w.admit("ann", 2)
		w.work()
		require.NoError(w.t, w.rdb.HDel(w.ctx, "sluice:{sale/0}:holders", "ann").Err())
		// Redis gives out slot 1 again; a slot of its own would even pass the unique key.
		second := w.admit("ann", 2)
		w.admit("bob", 3)
		b := w.claim(2)
		for i := range b.Tickets {
			if b.Tickets[i].ID == second.ID {
				b.Tickets[i].Slot = 2
			}
		}
		outcomes := w.handle(b)
		require.Equal(w.t, map[string]int{"c": 1, "f" + order.ReasonLimit: 1}, ops(outcomes))
		require.Equal(w.t, queue.OpFail, outcomes[second.ID].Op)
		require.EqualValues(w.t, 95, w.available())
		require.Equal(w.t, order.Failed, w.rows()[second.ID].Status)
		w.settle(b, outcomes)

		third := w.admit("ann", 1) // one more unit is within the limit
		b = w.claim(1)
		b.Tickets[0].Slot = 2
		require.Equal(w.t, queue.OpConfirm, w.handle(b)[third.ID].Op)
	})
}

// The cache is refreshed only now and then; the limit that counts is the
// sale's own.
func TestRaisedLimitCountsAtOnce(t *testing.T) {
	eachDatabase(t, 100, 2, func(w *world) {
		w.admit("ann", 2)
		w.work()
		raised := 3
		_, _, err := w.sales.Update(w.ctx, theSale, inventory.Change{PerUserLimit: &raised}, "test", "")
		require.NoError(w.t, err)
		require.NoError(w.t, w.reconciler.Reconcile(w.ctx))
		third := w.admit("ann", 1)
		b := w.claim(1)
		require.Equal(w.t, queue.OpConfirm, w.handle(b)[third.ID].Op)
	})
}

func TestCancelledTicketIsRecorded(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		w.admitMany(3)
		gone := w.admit("ann", 1)
		require.NoError(w.t, w.line.Cancel(w.ctx, gone.ID, "ann"))
		b := w.claim(4)
		outcomes := w.handle(b)
		require.Equal(w.t, map[string]int{"c": 3, "k": 1}, ops(outcomes))
		require.EqualValues(w.t, 97, w.available())
		row := w.rows()[gone.ID]
		require.Equal(w.t, order.Cancelled, row.Status)
		require.Nil(w.t, row.Slot)
		require.Equal(w.t, 1, row.Released, "its unit came back when it was cancelled")
		require.Positive(w.t, row.EndedAt)
		require.Equal(w.t, outcomes, w.handle(b))
		buried, err := w.fulfiller.Bury(w.ctx, queue.Batch{Sale: theSale, Epoch: b.Epoch, Tickets: b.Tickets[3:]},
			"gave up")
		require.NoError(w.t, err)
		require.Equal(w.t, queue.OpClose, buried[0].Op)
		w.settle(b, outcomes)
		require.Equal(w.t, map[string]int{"order.confirmed stream": 3, "order.confirmed email": 3,
			"order.cancelled stream": 1, "order.cancelled email": 1}, w.news())
		w.clean()
	})
}

// A worker that fell asleep before its line was rebuilt must not commit
// behind the back of the rebuild, which did not count its tickets.
func TestWorkerFromBeforeARebuildIsRefused(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		w.admitMany(5)
		b := w.claim(5)
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		w.keep()
		outcomes, err := w.fulfiller.Handle(w.ctx, b)
		require.Error(w.t, err, "%v", outcomes)
		require.Empty(w.t, outcomes)
		require.Empty(w.t, w.rows())
		require.EqualValues(w.t, 100, w.clean().LineStock)
	})
}

func TestDatabaseDiesAndComesBack(t *testing.T) {
	t.Parallel()
	for _, start := range []func(testing.TB) *testkit.DatabaseServer{testkit.PrivateMySQL, testkit.PrivatePostgres} {
		server := start(t)
		t.Run(server.Database().Driver, func(t *testing.T) {
			w := newWorld(t, server.Database(), testkit.Embedded(t).Addr(), 100, 1)
			w.admitMany(10)
			b := w.claim(10)
			server.Kill()
			outcomes, err := w.fulfiller.Handle(w.ctx, b)
			require.Error(t, err)
			require.Empty(t, outcomes, "nobody's ticket is to blame")
			outcomes, err = w.fulfiller.Bury(w.ctx, b, "gave up")
			require.Error(t, err)
			require.Empty(t, outcomes)
			require.Error(t, w.canceller.Cancel(w.ctx, theSale, "order-9999", "ann"))
			server.Start()
			require.Eventually(t, func() bool { return w.db.Ping(w.ctx) == nil }, soon, 10*time.Millisecond)
			require.Equal(t, map[string]int{"c": 10}, ops(w.handle(b)))
			w.settle(b, w.handle(b))
			require.EqualValues(t, 90, w.available())
			w.clean()
		})
	}
}

func TestUnknownSaleIsAFault(t *testing.T) {
	w := onSQLite(t, 1, 1)
	_, err := w.fulfiller.Handle(w.ctx, queue.Batch{Sale: "nowhere",
		Tickets: []queue.Ticket{{ID: "a", User: "ann", Units: 1, Slot: 1}}})
	require.Error(t, err)
	_, err = w.fulfiller.Bury(w.ctx, queue.Batch{Sale: "nowhere"}, "gave up")
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
	eachDatabase(t, 5, 1, func(w *world) {
		ticket := w.admit("ann", 1)
		b := w.claim(1)
		w.handle(b) // committed, but never settled
		w.exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = ? WHERE id = ?",
			time.Now().UnixMilli(), ticket.ID)
		w.exec("UPDATE stock SET available = available + 1")
		w.expire(b)
		again := w.claim(1)
		outcomes := w.handle(again)
		require.Equal(w.t, queue.OpEnded, outcomes[ticket.ID].Op)
		w.settle(again, outcomes)
		views, err := w.finder.Many(w.ctx, theSale, []string{ticket.ID})
		require.NoError(w.t, err)
		require.Equal(w.t, order.Cancelled, views[ticket.ID].Status)
		require.Equal(w.t, w.rows()[ticket.ID].EndedAt, views[ticket.ID].EndedAt.UnixMilli(),
			"both stores tell the same time")
		w.keep()
		require.EqualValues(w.t, 5, w.clean().LineStock)
	})
}

// What a rebuild brings back of an ended order still answers a repeated
// request, and still refuses another payload.
func TestReplayOfAnEndedOrderOutlivesARebuild(t *testing.T) {
	eachDatabase(t, 5, 1, func(w *world) {
		request := w.request("ann", 1)
		first := w.try(theSale, request)
		require.NoError(w.t, first.Err)
		w.work()
		require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, request.ID, "ann"))
		require.NoError(w.t, w.rdb.FlushAll(w.ctx).Err())
		w.keep()
		again := w.try(theSale, request)
		require.True(w.t, again.Replayed)
		require.Equal(w.t, queue.Cancelled, again.Ticket.State)
		require.Equal(w.t, []int64{first.Ticket.Position, first.Ticket.ETASeconds},
			[]int64{again.Ticket.Position, again.Ticket.ETASeconds})
		request.Fingerprint = "another"
		require.ErrorIs(w.t, w.try(theSale, request).Err, queue.ErrMismatch)
		require.EqualValues(w.t, 5, w.clean().LineStock)
	})
}

func timelessAll(outcomes map[string]queue.Outcome) map[string]queue.Outcome {
	all := make(map[string]queue.Outcome, len(outcomes))
	for id, o := range outcomes {
		all[id] = timeless(o)
	}
	return all
}
