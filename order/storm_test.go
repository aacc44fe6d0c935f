package order_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/payment"
	"sluice/order/restore"
	"sluice/queue"
)

// Everybody acts at once, while an audit looks on: shoppers, payers, workers that die or come late, operators and
// rebuilds. No look finds a difference, and what everybody was answered holds. STORM says for how long, on each
// database.
func TestStorm(t *testing.T) {
	t.Parallel()
	length := 4 * time.Second
	if text := os.Getenv("STORM"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := orders.NewUnpaid(t, d, testkit.Embedded(t).Addr(),
				orders.Terms{Stock: 60, Limit: 2, Deadline: time.Hour})
			w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, orders.Channels(), w.Cache.Now, "storm").Restore)
			s := &storm{World: w, letters: w.DeadLetters(), answered: map[string]string{},
				units: map[string]queue.Ticket{}}
			s.run(length)
			s.settleDown()
			s.judge()
		})
	}
}

// storm is everything that happens at once, and what was answered.
type storm struct {
	*orders.World
	letters *deadletter.Admin

	mu       sync.Mutex
	orders   []string
	units    map[string]queue.Ticket // accepted orders
	answered map[string]string       // the last end that an owner, or a payment provider, was answered
	wrong    []string
	steps    int
	looks    int
}

// stormUsers are those who come at a time. With the orders others come, since these hold what they may.
const stormUsers = 400

// run lets everybody act until the time is over.
func (s *storm) run(length time.Duration) {
	ctx, cancel := context.WithTimeout(s.Ctx, length)
	defer cancel()
	var all sync.WaitGroup
	start := func(actors int, every time.Duration, act func(ctx context.Context)) {
		for range actors {
			all.Go(func() {
				tick := time.NewTicker(every)
				defer tick.Stop()
				for ctx.Err() == nil {
					act(context.WithoutCancel(ctx)) // what has begun is finished
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
		}
	}
	start(3, 2*time.Millisecond, s.shop)
	start(3, 2*time.Millisecond, s.drain)
	start(1, 10*time.Millisecond, s.sweep)
	start(2, 4*time.Millisecond, s.cancelOne)
	start(2, 4*time.Millisecond, s.payOne)
	start(1, 15*time.Millisecond, s.expireOne)
	start(2, 10*time.Millisecond, s.operate)
	start(1, 100*time.Millisecond, s.restock)
	start(1, 50*time.Millisecond, func(ctx context.Context) { _ = s.Reconciler.Reconcile(ctx) })
	start(1, 400*time.Millisecond, func(context.Context) { s.rebuild(ctx) })
	start(1, time.Millisecond, s.look)
	all.Wait()
}

// rebuild leaves the line open for four times as long as it was closed. A sale that has grown would do nothing else.
func (s *storm) rebuild(ctx context.Context) {
	began := time.Now()
	_ = s.Reconciler.Rebuild(context.WithoutCancel(ctx), orders.Sale)
	select {
	case <-time.After(4 * time.Since(began)):
	case <-ctx.Done():
	}
}

// any is an order that was accepted, "" before the first.
func (s *storm) any() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	if len(s.orders) == 0 {
		return ""
	}
	recent := s.orders[max(len(s.orders)-60, 0):]
	return recent[rand.IntN(len(recent))] // #nosec G404 -- a storm need not be unpredictable
}

func (s *storm) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.orders)
}

func (s *storm) note(id, end string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered[id] = end
}

func (s *storm) shop(ctx context.Context) {
	sale, _, err := s.Sales.Get(ctx, orders.Sale)
	if err != nil {
		return
	}
	user := fmt.Sprint("user-", s.accepted()/2+rand.IntN(stormUsers)) // #nosec G404 -- as above
	r := queue.Request{ID: uuid.NewString(), User: user, Units: 1 + rand.IntN(2), Fingerprint: "print"}
	admissions, err := s.Line.Admit(ctx, sale.Epoch, 100, []queue.Request{r})
	if err != nil || admissions[0].Err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, r.ID)
	s.units[r.ID] = admissions[0].Ticket
}

// drain is a worker, that may fail, die, or give its batch back after the transaction as well as before.
func (s *storm) drain(ctx context.Context) {
	b, err := s.Line.Claim(ctx, uuid.NewString(), 1+rand.IntN(6), time.Duration(20+rand.IntN(200))*time.Millisecond)
	if err != nil || len(b.Tickets) == 0 {
		return
	}
	back := func() []queue.Outcome {
		var outcomes []queue.Outcome
		for _, t := range b.Tickets {
			one := queue.Outcome{ID: t.ID, Op: queue.OpBack}
			if rand.IntN(2) == 0 {
				one = queue.Outcome{ID: t.ID, Op: queue.OpRetry, Delay: time.Duration(rand.IntN(30)) * time.Millisecond}
			}
			outcomes = append(outcomes, one)
		}
		return outcomes
	}
	fate := rand.IntN(20)
	if fate == 0 {
		return // it dies with its batch
	}
	if fate == 1 {
		_ = s.Line.Settle(ctx, b, back())
		return
	}
	var outcomes []queue.Outcome
	if fate <= 3 && b.Solo {
		outcomes, err = s.Fulfiller.Bury(ctx, b, "gave up")
	} else {
		outcomes, err = s.Fulfiller.Handle(ctx, b)
	}
	switch {
	case fate == 4: // it dies after the transaction
		return
	case err != nil, fate == 5: // it does not know what became of it
		outcomes = back()
	}
	_ = s.Line.Settle(ctx, b, outcomes)
}

func (s *storm) sweep(ctx context.Context) {
	_, _, _ = s.Line.Reclaim(ctx)
	_, _ = s.Line.Promote(ctx, 100)
}

func (s *storm) cancelOne(ctx context.Context) {
	id := s.any()
	t, ok := s.ticketOf(id)
	if !ok || rand.IntN(3) > 0 {
		return
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if s.Canceller.Cancel(short, orders.Sale, id, t.User) == nil {
		s.note(id, order.Cancelled)
	}
}

func (s *storm) ticketOf(id string) (queue.Ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.units[id]
	return t, ok
}

func (s *storm) payOne(ctx context.Context) {
	id := s.any()
	t, ok := s.ticketOf(id)
	if !ok {
		return
	}
	p := payment.Payment{ID: fmt.Sprint(id, "-", rand.IntN(2)), AmountCents: 9900 * int64(t.Units), Currency: "CNY"}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if paying, err := s.Payer.Pay(short, orders.Sale, id, p); err == nil && !paying.Refund() {
		s.note(id, order.Paid)
	}
}

func (s *storm) expireOne(ctx context.Context) {
	id := s.any()
	if id == "" {
		return
	}
	overdue := s.DB.Write.WithContext(ctx).Model(&order.Row{}).Where("id = ? AND status = ?", id, order.Confirmed).
		Update("pay_by", 1)
	if overdue.Error == nil && overdue.RowsAffected == 1 {
		_ = s.Redis.ZAddXX(ctx, orders.Key("due"), redis.Z{Score: 1, Member: id}).Err()
	}
	_ = s.Expirer.Expire(ctx)
}

// operate puts the oldest dead letters back, or drops them.
func (s *storm) operate(ctx context.Context) {
	letters, err := s.Line.DeadLetters(ctx, 0, 5)
	if err != nil || len(letters) == 0 {
		return
	}
	one := letters[rand.IntN(len(letters))].Ticket.ID
	if rand.IntN(4) == 0 {
		_ = s.letters.Drop(ctx, orders.Sale, one, "olga", "storm")
		return
	}
	_ = s.letters.Requeue(ctx, orders.Sale, one, "olga", "storm")
}

// restock adds units, or nobody would find any.
func (s *storm) restock(ctx context.Context) {
	_, _ = s.Sales.AdjustStock(ctx, inventory.Adjustment{Sale: orders.Sale, Delta: 2, Actor: "olga",
		Reason: "more found"})
}

// look audits. An audit that could not compare the stores, because the line was being rebuilt all the time, says so.
func (s *storm) look(ctx context.Context) {
	result, err := s.Auditor.Run(ctx, orders.Sale)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if err == nil && result.Verdict == inventory.VerdictDifferent && len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf("audit %d: %+v", s.looks, result.Sales))
	}
}

// settleDown lets honest workers end what is left.
func (s *storm) settleDown() {
	s.T.Helper()
	deadline := time.Now().Add(orders.Soon)
	for s.View().InFlight() {
		require.False(s.T, time.Now().After(deadline), "the line does not come to rest: %+v", s.View())
		for _, b := range s.Redis.ZRange(s.Ctx, orders.Key("lease"), 0, -1).Val() {
			require.NoError(s.T, s.Redis.ZAddXX(s.Ctx, orders.Key("lease"), redis.Z{Score: 1, Member: b}).
				Err())
		}
		for _, id := range s.Redis.ZRange(s.Ctx, orders.Key("retry"), 0, -1).Val() {
			require.NoError(s.T, s.Redis.ZAddXX(s.Ctx, orders.Key("retry"), redis.Z{Score: 1, Member: id}).
				Err())
		}
		s.sweep(s.Ctx)
		s.CatchUp()
		s.Work()
	}
	s.CatchUp()
}

// judge holds what everybody was answered against the rows.
func (s *storm) judge() {
	s.T.Helper()
	require.Empty(s.T, s.wrong, "after %d steps and %d looks", s.steps, s.looks)
	s.Clean()
	require.Zero(s.T, s.View().Bounded, "the cap counts nobody in an empty line")
	rows := s.Rows()
	var wrong []string
	for _, id := range s.orders {
		row, ok := rows[id]
		switch last := s.answered[id]; {
		case !ok:
			wrong = append(wrong, id+" was accepted and has no row")
		case last == order.Cancelled && row.Status != order.Cancelled:
			wrong = append(wrong, fmt.Sprintf("%s was cancelled and is %s", id, row.Status))
		case last == order.Paid && row.Status != order.Paid && row.Refund == "":
			wrong = append(wrong, fmt.Sprintf("%s was paid and is %s", id, row.Status))
		case row.Status == order.Failed && row.Reason == order.ReasonSoldOut:
			wrong = append(wrong, id+" was accepted and sold out")
		}
	}
	slices.Sort(wrong)
	require.Empty(s.T, wrong[:min(len(wrong), 10)], "%d of %d", len(wrong), len(s.orders))
	s.T.Logf("%d orders accepted, %d looks of the audit, %v", len(s.orders), s.looks, s.Count())
}
