package inventory_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/expiry"
	"sluice/order/payment"
	"sluice/queue"
)

// afterFirst runs something once, right after the first script has answered.
type afterFirst struct {
	once *sync.Once
	run  func()
}

func (a afterFirst) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a afterFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" {
			a.once.Do(a.run)
		}
		return err
	}
}

func (a afterFirst) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Whatever happens between the audit's look at the line and its look at the
// database is recognised, however rarely a busy sale hits that moment.
func TestAuditFollowsWhatMovesBetweenItsLooks(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(1000, 3)
		w.admitMany(3)
		w.work(3)
		confirmed := w.admit("confirmed", 2)
		w.work(1)
		cancel := func(ticket queue.Ticket) {
			require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, ticket.ID, ticket.User))
		}
		endUnreleased := func(ticket queue.Ticket) {
			w.exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = 1 WHERE id = ?",
				ticket.ID)
			w.exec("UPDATE stock SET available = available + ? WHERE sale_id = ?", ticket.Units, theSale)
		}
		moves := []struct {
			name string
			run  func()
		}{
			{"admitted", func() { w.admitMany(2) }},
			{"waiting became orders", func() { w.work(10) }},
			{"admitted and became orders", func() { w.admitMany(3); w.work(10) }},
			{"admitted, became an order and was cancelled", func() {
				late := w.admit("late",
					3)
				w.work(10)
				cancel(late)
			}},
			{"admitted, became an order and ended unreleased",
				func() { late := w.admit("later", 3); w.work(10); endUnreleased(late) }},
			{"cancelled and released", func() { cancel(confirmed) }},
			{"ended unreleased", func() { again := w.admit("again", 2); w.work(10); endUnreleased(again) }},
			{"released by the keeper", w.keep},
			{"stock adjusted", func() {
				_, err := w.saleStore.AdjustStock(w.ctx, inventory.Adjustment{Sale: theSale, Delta: 7, Actor: "test",
					Reason: "found"})
				require.NoError(w.t, err)
			}},
			{"the line learns of it", w.keep},
			{"rebuilt", func() {
				require.NoError(w.t, w.reconciler.Rebuild(w.ctx, theSale))
				require.NoError(w.t, w.cache.Refresh(w.ctx))
			}},
		}
		for _, move := range moves {
			w.between(move.name, move.run)
		}
	})
}

// between audits while something happens between the audit's two looks.
func (w *world) between(name string, run func()) {
	w.t.Helper()
	w.clean() // also loads the script, so that the next call is one command
	rdb := dial(w.t, w.rdb.Options().Addr)
	var once sync.Once
	rdb.AddHook(afterFirst{once: &once, run: run})
	auditor := inventory.NewAuditor(w.db, queue.NewLines(rdb, queue.DefaultPrefix), time.Hour, w.clock.Now).LookOnce()
	result, err := auditor.Run(w.ctx, theSale)
	require.NoError(w.t, err, name)
	require.Equal(w.t, inventory.VerdictClean, result.Verdict, "%s: %+v", name, result.Sales)
	w.clean()
}

// A letter that is put back has been dead at the first look and is a ticket, or an order, at the second.
func TestAuditFollowsDeadLettersThatComeBack(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(1000, 3)
		log := slog.New(slog.DiscardHandler)
		dead := deadletter.NewAdmin(w.db, w.lines, adminlog.New(w.db, log, w.clock.Now, 0))
		bury := func(user string) queue.Ticket {
			ticket := w.admit(user, 2)
			w.bury()
			return ticket
		}
		requeue := func(ticket queue.Ticket) {
			require.NoError(w.t, dead.Requeue(w.ctx, theSale, ticket.ID, "olga", ""))
		}
		ann, bob, cid, dan := bury("ann"), bury("bob"), bury("cid"), bury("dan")
		w.between("requeued", func() { requeue(ann) })
		w.between("requeued before, confirmed", func() { w.work(10) })
		w.between("requeued and confirmed", func() { requeue(bob); w.work(10) })
		w.between("requeued and buried again", func() { requeue(cid); w.bury() })
		w.between("requeued and confirmed after two lives", func() { requeue(cid); w.work(10) })
		w.between("requeued, confirmed and cancelled", func() {
			requeue(dan)
			w.work(10)
			require.NoError(w.t, w.canceller.Cancel(w.ctx, theSale, dan.ID, dan.User))
		})
		w.between("admitted, buried, requeued and confirmed", func() { late := bury("eve"); requeue(late); w.work(10) })
	})
}

// bury takes the next ticket to its death.
func (w *world) bury() {
	w.t.Helper()
	batch, err := w.line.Claim(w.ctx, uuid.NewString(), 1, long)
	require.NoError(w.t, err)
	require.Len(w.t, batch.Tickets, 1)
	outcomes, err := w.fulfiller.Bury(w.ctx, batch, "gave up")
	require.NoError(w.t, err)
	require.NoError(w.t, w.line.Settle(w.ctx, batch, outcomes))
}

// Units that a late payment takes again between the looks are recognised,
// wherever the order stood at the first.
func TestAuditFollowsLatePayments(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(1000, 3)
		log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
		payer := payment.NewPayer(payment.Parts{
			DB: w.db, Lines: w.lines, Sales: w.saleStore, Lease: time.Minute,
			Channels: []string{"stream"}, OnCommit: func() {}, Log: log, Now: w.cache.Now,
			Metrics: reg,
		})
		expirer := expiry.NewExpirer(expiry.Parts{
			DB: w.db, Lines: w.lines, Reconciler: w.reconciler, Active: w.cache.Active,
			Channels: []string{"stream"}, OnCommit: func() {}, Log: log, Now: w.cache.Now,
			Metrics: reg,
		})
		confirm := func(user string) queue.Ticket {
			ticket := w.admit(user, 2)
			w.work(10)
			return ticket
		}
		expire := func(ticket queue.Ticket) {
			w.exec("UPDATE orders SET pay_by = 1 WHERE id = ?", ticket.ID)
			require.NoError(w.t, expirer.Sweep(w.ctx))
		}
		pay := func(ticket queue.Ticket) {
			paying, err := payer.Pay(w.ctx, theSale, ticket.ID,
				payment.Payment{ID: ticket.ID, AmountCents: 2 * 9900, Currency: "CNY"})
			require.NoError(w.t, err)
			require.Equal(w.t, order.PaymentLate, paying.Outcome)
		}
		confirmed, other := confirm("ann"), confirm("bob")
		w.between("expired", func() { expire(confirmed) })
		w.between("paid late", func() { pay(confirmed) })
		w.between("expired and paid late", func() { expire(other); pay(other) })
		w.between("admitted, expired and paid late", func() { late := confirm("cid"); expire(late); pay(late) })
		waiting := w.admit("dan", 2)
		w.between("in line, then expired and paid late", func() { w.work(10); expire(waiting); pay(waiting) })
	})
}
