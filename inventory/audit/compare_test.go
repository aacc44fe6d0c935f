package audit_test

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
	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/audit"
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
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(1000, 3)
		w.AdmitMany(3)
		w.WorkOff(3)
		confirmed := w.Admit("confirmed", 2)
		w.WorkOff(1)
		cancel := func(ticket queue.Ticket) {
			require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, ticket.ID, ticket.User))
		}
		endUnreleased := func(ticket queue.Ticket) {
			w.Exec("UPDATE orders SET status = 'cancelled', slot = NULL, released = 0, ended_at = 1 WHERE id = ?",
				ticket.ID)
			w.Exec("UPDATE stock SET available = available + ? WHERE sale_id = ?", ticket.Units, orders.Sale)
		}
		moves := []struct {
			name string
			run  func()
		}{
			{"admitted", func() { w.AdmitMany(2) }},
			{"waiting became orders", func() { w.WorkOff(10) }},
			{"admitted and became orders", func() { w.AdmitMany(3); w.WorkOff(10) }},
			{"admitted, became an order and was cancelled", func() {
				late := w.Admit("late",
					3)
				w.WorkOff(10)
				cancel(late)
			}},
			{"admitted, became an order and ended unreleased",
				func() { late := w.Admit("later", 3); w.WorkOff(10); endUnreleased(late) }},
			{"cancelled and released", func() { cancel(confirmed) }},
			{"ended unreleased", func() { again := w.Admit("again", 2); w.WorkOff(10); endUnreleased(again) }},
			{"released by the reconciler", w.CatchUp},
			{"stock adjusted", func() {
				_, err := w.Sales.AdjustStock(w.Ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 7, Actor: "test",
					Reason: "found"})
				require.NoError(w.T, err)
			}},
			{"the line learns of it", w.CatchUp},
			{"rebuilt", func() {
				require.NoError(w.T, w.Reconciler.Rebuild(w.Ctx, orders.Sale))
				require.NoError(w.T, w.Cache.Refresh(w.Ctx))
			}},
		}
		for _, move := range moves {
			between(w, move.name, move.run)
		}
	})
}

// between audits while something happens between the audit's two looks.
func between(w *orders.World, name string, run func()) {
	w.T.Helper()
	w.Clean() // also loads the script, so that the next call is one command
	rdb := testkit.ProductClient(w.T, w.Redis.Options().Addr)
	var once sync.Once
	rdb.AddHook(afterFirst{once: &once, run: run})
	auditor := audit.New(w.DB, queue.NewLines(rdb, queue.DefaultPrefix), time.Hour, w.Clock.Now).LookOnce()
	result, err := auditor.Run(w.Ctx, orders.Sale)
	require.NoError(w.T, err, name)
	require.Equal(w.T, audit.Clean, result.Verdict, "%s: %+v", name, result.Sales)
	w.Clean()
}

// A letter that is put back has been dead at the first look and is a ticket, or an order, at the second.
func TestAuditFollowsDeadLettersThatComeBack(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(1000, 3)
		log := slog.New(slog.DiscardHandler)
		dead := deadletter.NewAdmin(w.DB, w.Lines, adminlog.New(w.DB, log, w.Clock.Now, 0))
		bury := func(user string) queue.Ticket {
			ticket := w.Admit(user, 2)
			buryNext(w)
			return ticket
		}
		requeue := func(ticket queue.Ticket) {
			require.NoError(w.T, dead.Requeue(w.Ctx, orders.Sale, ticket.ID, "olga", ""))
		}
		ann, bob, cid, dan := bury("ann"), bury("bob"), bury("cid"), bury("dan")
		between(w, "requeued", func() { requeue(ann) })
		between(w, "requeued before, confirmed", func() { w.WorkOff(10) })
		between(w, "requeued and confirmed", func() { requeue(bob); w.WorkOff(10) })
		between(w, "requeued and buried again", func() { requeue(cid); buryNext(w) })
		between(w, "requeued and confirmed after two lives", func() { requeue(cid); w.WorkOff(10) })
		between(w, "requeued, confirmed and cancelled", func() {
			requeue(dan)
			w.WorkOff(10)
			require.NoError(w.T, w.Canceller.Cancel(w.Ctx, orders.Sale, dan.ID, dan.User))
		})
		between(w, "admitted, buried, requeued and confirmed", func() {
			late := bury("eve")
			requeue(late)
			w.WorkOff(10)
		})
	})
}

// buryNext takes the next ticket to its death.
func buryNext(w *orders.World) {
	w.T.Helper()
	batch, err := w.Line.Claim(w.Ctx, uuid.NewString(), 1, orders.Lease)
	require.NoError(w.T, err)
	require.Len(w.T, batch.Tickets, 1)
	outcomes, err := w.Fulfiller.Bury(w.Ctx, batch, "gave up")
	require.NoError(w.T, err)
	require.NoError(w.T, w.Line.Settle(w.Ctx, batch, outcomes))
}

// Units that a late payment takes again between the looks are recognised,
// wherever the order stood at the first.
func TestAuditFollowsLatePayments(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(1000, 3)
		log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
		payer := payment.NewPayer(payment.Parts{
			DB: w.DB, Lines: w.Lines, Sales: w.Sales, Lease: time.Minute,
			Channels: []string{"stream"}, OnCommit: func() {}, Log: log, Now: w.Cache.Now,
			Metrics: reg,
		})
		expirer := expiry.NewExpirer(expiry.Parts{
			DB: w.DB, Lines: w.Lines, Reconciler: w.Reconciler, Active: w.Cache.Active,
			Channels: []string{"stream"}, OnCommit: func() {}, Log: log, Now: w.Cache.Now,
			Metrics: reg,
		})
		confirm := func(user string) queue.Ticket {
			ticket := w.Admit(user, 2)
			w.WorkOff(10)
			return ticket
		}
		expire := func(ticket queue.Ticket) {
			w.Exec("UPDATE orders SET pay_by = 1 WHERE id = ?", ticket.ID)
			require.NoError(w.T, expirer.Sweep(w.Ctx))
		}
		pay := func(ticket queue.Ticket) {
			paying, err := payer.Pay(w.Ctx, orders.Sale, ticket.ID,
				payment.Payment{ID: ticket.ID, AmountCents: 2 * 9900, Currency: "CNY"})
			require.NoError(w.T, err)
			require.Equal(w.T, order.PaymentLate, paying.Outcome)
		}
		confirmed, other := confirm("ann"), confirm("bob")
		between(w, "expired", func() { expire(confirmed) })
		between(w, "paid late", func() { pay(confirmed) })
		between(w, "expired and paid late", func() { expire(other); pay(other) })
		between(w, "admitted, expired and paid late", func() { late := confirm("cid"); expire(late); pay(late) })
		waiting := w.Admit("dan", 2)
		between(w, "in line, then expired and paid late", func() { w.WorkOff(10); expire(waiting); pay(waiting) })
	})
}
