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
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// Shoppers order, cancel and pay, orders expire and are paid late, workers die, fail and come late, operators put
// letters back, and the line is rebuilt, all at once, while an audit looks on: no look finds a difference, and what
// everybody was told holds. STORM says for how long, on each database.
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
			w := newWorldWith(t, d, testkit.Embedded(t).Addr(), 60, 2, time.Hour)
			w.reconciler.RestoreBy(order.NewRestorer(w.db, channels, w.cache.Now, "storm").Restore)
			s := &storm{world: w, letters: w.dead(), told: map[string]string{}, units: map[string]queue.Ticket{}}
			s.run(length)
			s.settleDown()
			s.judge()
		})
	}
}

// storm is everything that happens at once, and what was answered.
type storm struct {
	*world
	letters *order.DeadLetters

	mu     sync.Mutex
	orders []string
	units  map[string]queue.Ticket // accepted orders
	told   map[string]string       // the last end that an owner, or a payment provider, was told
	wrong  []string
	steps  int
	looks  int
}

// stormUsers are those who come at a time. With the orders others come, since these hold what they may.
const stormUsers = 400

// run lets everybody act until the time is over.
func (s *storm) run(length time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, length)
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
	start(1, 50*time.Millisecond, func(ctx context.Context) { _ = s.reconciler.Reconcile(ctx) })
	start(1, 400*time.Millisecond, func(context.Context) { s.rebuild(ctx) })
	start(1, time.Millisecond, s.look)
	all.Wait()
}

// rebuild leaves the line open for four times as long as it was closed, or a sale that has grown would do nothing else.
func (s *storm) rebuild(ctx context.Context) {
	began := time.Now()
	_ = s.reconciler.Rebuild(context.WithoutCancel(ctx), theSale)
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
	s.told[id] = end
}

func (s *storm) shop(ctx context.Context) {
	sale, _, err := s.sales.Get(ctx, theSale)
	if err != nil {
		return
	}
	user := fmt.Sprint("user-", s.accepted()/2+rand.IntN(stormUsers)) // #nosec G404 -- as above
	r := queue.Request{ID: uuid.NewString(), User: user, Units: 1 + rand.IntN(2), Fingerprint: "print"}
	admissions, err := s.line.Admit(ctx, sale.Epoch, 100, []queue.Request{r})
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
	b, err := s.line.Claim(ctx, uuid.NewString(), 1+rand.IntN(6), time.Duration(20+rand.IntN(200))*time.Millisecond)
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
		_ = s.line.Settle(ctx, b, back())
		return
	}
	var outcomes []queue.Outcome
	if fate <= 3 && b.Solo {
		outcomes, err = s.fulfiller.Bury(ctx, b, "gave up")
	} else {
		outcomes, err = s.fulfiller.Handle(ctx, b)
	}
	switch {
	case fate == 4: // it dies after the transaction
		return
	case err != nil, fate == 5: // it does not know what became of it
		outcomes = back()
	}
	_ = s.line.Settle(ctx, b, outcomes)
}

func (s *storm) sweep(ctx context.Context) {
	_, _, _ = s.line.Reclaim(ctx)
	_, _ = s.line.Promote(ctx, 100)
}

func (s *storm) cancelOne(ctx context.Context) {
	id := s.any()
	t, ok := s.ticketOf(id)
	if !ok || rand.IntN(3) > 0 {
		return
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if s.canceller.Cancel(short, theSale, id, t.User) == nil {
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
	payment := order.Payment{ID: fmt.Sprint(id, "-", rand.IntN(2)), AmountCents: 9900 * int64(t.Units), Currency: "CNY"}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if paying, err := s.payer.Pay(short, theSale, id, payment); err == nil && !paying.Refund() {
		s.note(id, order.Paid)
	}
}

func (s *storm) expireOne(ctx context.Context) {
	id := s.any()
	if id == "" {
		return
	}
	overdue := s.db.Write.WithContext(ctx).Model(&order.Row{}).Where("id = ? AND status = ?", id, order.Confirmed).
		Update("pay_by", 1)
	if overdue.Error == nil && overdue.RowsAffected == 1 {
		_ = s.rdb.ZAddXX(ctx, dueKey, redis.Z{Score: 1, Member: id}).Err()
	}
	_ = s.expirer.Expire(ctx)
}

// operate puts the oldest dead letters back, or drops them.
func (s *storm) operate(ctx context.Context) {
	letters, err := s.line.DeadLetters(ctx, 0, 5)
	if err != nil || len(letters) == 0 {
		return
	}
	one := letters[rand.IntN(len(letters))].Ticket.ID
	if rand.IntN(4) == 0 {
		_ = s.letters.Drop(ctx, theSale, one, "olga", "storm")
		return
	}
	_ = s.letters.Requeue(ctx, theSale, one, "olga", "storm")
}

// restock adds units, or nobody would find any.
func (s *storm) restock(ctx context.Context) {
	_, _ = s.sales.AdjustStock(ctx, inventory.Adjustment{Sale: theSale, Delta: 2, Actor: "olga",
		Reason: "more found"})
}

// look audits. An audit that could not compare the stores, because the line was being rebuilt all the time, says so.
func (s *storm) look(ctx context.Context) {
	result, err := s.auditor.Run(ctx, theSale)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if err == nil && result.Verdict == inventory.VerdictDifferent && len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf("audit %d: %+v", s.looks, result.Sales))
	}
}

// settleDown lets honest workers end what is left.
func (s *storm) settleDown() {
	s.t.Helper()
	deadline := time.Now().Add(soon)
	for s.view().InFlight() {
		require.False(s.t, time.Now().After(deadline), "the line does not come to rest: %+v", s.view())
		for _, b := range s.rdb.ZRange(s.ctx, "sluice:{"+theSale+"/0}:lease", 0, -1).Val() {
			require.NoError(s.t, s.rdb.ZAddXX(s.ctx, "sluice:{"+theSale+"/0}:lease", redis.Z{Score: 1, Member: b}).
				Err())
		}
		for _, id := range s.rdb.ZRange(s.ctx, "sluice:{"+theSale+"/0}:retry", 0, -1).Val() {
			require.NoError(s.t, s.rdb.ZAddXX(s.ctx, "sluice:{"+theSale+"/0}:retry", redis.Z{Score: 1, Member: id}).
				Err())
		}
		s.sweep(s.ctx)
		s.keep()
		s.work()
	}
	s.keep()
}

// judge holds what everybody was told against the rows.
func (s *storm) judge() {
	s.t.Helper()
	require.Empty(s.t, s.wrong, "after %d steps and %d looks", s.steps, s.looks)
	s.clean()
	require.Zero(s.t, s.view().Bounded, "the cap counts nobody in an empty line")
	rows := s.rows()
	var wrong []string
	for _, id := range s.orders {
		row, ok := rows[id]
		switch told := s.told[id]; {
		case !ok:
			wrong = append(wrong, id+" was accepted and has no row")
		case told == order.Cancelled && row.Status != order.Cancelled:
			wrong = append(wrong, fmt.Sprintf("%s was cancelled and is %s", id, row.Status))
		case told == order.Paid && row.Status != order.Paid && row.Refund == "":
			wrong = append(wrong, fmt.Sprintf("%s was paid and is %s", id, row.Status))
		case row.Status == order.Failed && row.Reason == order.ReasonSoldOut:
			wrong = append(wrong, id+" was accepted and sold out")
		}
	}
	slices.Sort(wrong)
	require.Empty(s.t, wrong[:min(len(wrong), 10)], "%d of %d", len(wrong), len(s.orders))
	s.t.Logf("%d orders accepted, %d looks of the audit, %v", len(s.orders), s.looks, s.count())
}
