package order_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/order"
	"sluice/order/payment"
	"sluice/queue"
)

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
	if err == nil && result.Verdict == audit.Different && len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf("audit %d: %+v", s.looks, result.Sales))
	}
}
