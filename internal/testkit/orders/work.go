package orders

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/payment"
	"sluice/queue"
)

// Request returns a user's next request for units.
func (w *World) Request(user string, units int) queue.Request {
	w.Tickets++
	return queue.Request{ID: fmt.Sprintf("order-%04d", w.Tickets), User: user, Units: units, Fingerprint: "print",
		Email: user + "@example.com"}
}

// Try asks for a place in a line.
func (w *World) Try(sale string, r queue.Request) queue.Admission {
	w.T.Helper()
	s, _, err := w.Sales.Get(w.Ctx, sale)
	require.NoError(w.T, err)
	admissions, err := w.Lines.Of(sale).Admit(w.Ctx, s.Epoch, 100, []queue.Request{r})
	require.NoError(w.T, err)
	return admissions[0]
}

// Admit takes one order into the line.
func (w *World) Admit(user string, units int) queue.Ticket {
	w.T.Helper()
	return w.AdmitTo(Sale, user, units)
}

// AdmitTo takes one order into a sale's line.
func (w *World) AdmitTo(sale, user string, units int) queue.Ticket {
	w.T.Helper()
	a := w.Try(sale, w.Request(user, units))
	require.NoError(w.T, a.Err)
	return a.Ticket
}

// Ask asks for a place in the line of the sale, which may not be ready.
func (w *World) Ask(user string, units int) (queue.Admission, error) {
	w.T.Helper()
	sale, _ := w.Get()
	admissions, err := w.Line.Admit(w.Ctx, sale.Epoch, 100, []queue.Request{w.Request(user, units)})
	if err != nil {
		return queue.Admission{}, err
	}
	return admissions[0], nil
}

// AdmitMany takes orders of n new users, one unit each.
func (w *World) AdmitMany(n int) []queue.Ticket {
	w.T.Helper()
	sale, _ := w.Get()
	var tickets []queue.Ticket
	for len(tickets) < n {
		var requests []queue.Request
		for range min(n-len(tickets), queue.MaxAdmit) {
			requests = append(requests, w.Request(fmt.Sprintf("user-%04d", w.Tickets+1), 1))
		}
		admissions, err := w.Line.Admit(w.Ctx, sale.Epoch, 100, requests)
		require.NoError(w.T, err)
		for _, a := range admissions {
			require.NoError(w.T, a.Err)
			tickets = append(tickets, a.Ticket)
		}
	}
	return tickets
}

// Claim takes up to n tickets for as long as the test runs.
func (w *World) Claim(n int) queue.Batch {
	w.T.Helper()
	b, err := w.Line.Claim(w.Ctx, uuid.NewString(), n, Lease)
	require.NoError(w.T, err)
	return b
}

// Handle fulfils a batch and returns its outcomes by id.
func (w *World) Handle(b queue.Batch) map[string]queue.Outcome {
	w.T.Helper()
	outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
	require.NoError(w.T, err)
	require.Len(w.T, outcomes, len(b.Tickets))
	return ByID(outcomes)
}

// ByID returns outcomes by their ids.
func ByID(outcomes []queue.Outcome) map[string]queue.Outcome {
	all := make(map[string]queue.Outcome, len(outcomes))
	for _, o := range outcomes {
		all[o.ID] = o
	}
	return all
}

// Settle ends a batch.
func (w *World) Settle(b queue.Batch, outcomes map[string]queue.Outcome) {
	w.T.Helper()
	var list []queue.Outcome
	for _, t := range b.Tickets {
		list = append(list, outcomes[t.ID])
	}
	require.NoError(w.T, w.Line.Settle(w.Ctx, b, list))
}

// Work fulfils and settles until the line is empty.
func (w *World) Work() {
	w.T.Helper()
	for {
		b := w.Claim(queue.MaxBatch)
		if len(b.Tickets) == 0 {
			return
		}
		w.Settle(b, w.Handle(b))
	}
}

// WorkOff fulfils and settles up to n tickets.
func (w *World) WorkOff(n int) {
	w.T.Helper()
	for n > 0 {
		b := w.Claim(n)
		if len(b.Tickets) == 0 {
			return
		}
		w.Settle(b, w.Handle(b))
		n -= len(b.Tickets)
	}
}

// EndLease ends the lease of a batch now and makes its tickets claimable again.
func (w *World) EndLease(b queue.Batch) {
	w.T.Helper()
	require.NoError(w.T, w.Redis.ZAddXX(w.Ctx, Key("lease"), redis.Z{Score: 1, Member: b.ID}).Err())
	_, tickets, err := w.Line.Reclaim(w.Ctx)
	require.NoError(w.T, err)
	require.EqualValues(w.T, len(b.Tickets), tickets)
}

// Key returns the name of one of the line's keys.
func Key(name string) string { return "sluice:{" + Sale + "/0}:" + name }

// BreakLine gives a key of a sale's line a type that nothing expects.
func (w *World) BreakLine(sale, name string) {
	w.T.Helper()
	key := "sluice:{" + sale + "/0}:" + name
	require.NoError(w.T, w.Redis.Del(w.Ctx, key).Err())
	require.NoError(w.T, w.Redis.Set(w.Ctx, key, "of a wrong type", 0).Err())
}

// LoseLine deletes the line of a sale, as a Redis without its data has it.
func (w *World) LoseLine(sale string) {
	w.T.Helper()
	keys, err := w.Redis.Keys(w.Ctx, "sluice:{"+sale+"/0}:*").Result()
	require.NoError(w.T, err)
	require.NotEmpty(w.T, keys)
	require.NoError(w.T, w.Redis.Del(w.Ctx, keys...).Err())
}

// Confirm makes an order of one user.
func (w *World) Confirm(user string, units int) queue.Ticket {
	w.T.Helper()
	t := w.Admit(user, units)
	w.Work()
	require.Equal(w.T, order.Confirmed, w.Rows()[t.ID].Status)
	return t
}

// Cancel ends an order at its owner's wish.
func (w *World) Cancel(id, user string) error { return w.Canceller.Cancel(w.Ctx, Sale, id, user) }

// Pays returns the payment of an order of so many units.
func Pays(id string, units int) payment.Payment {
	return payment.Payment{ID: "pay-" + id, AmountCents: 9900 * int64(units), Currency: "CNY"}
}

// Pay takes a payment for an order.
func (w *World) Pay(id string, p payment.Payment) (payment.Result, error) {
	return w.Payer.Pay(w.Ctx, Sale, id, p)
}

// PassDeadline lets the deadline of an order lie in the past, in both stores.
func (w *World) PassDeadline(id string) {
	w.T.Helper()
	w.Exec("UPDATE orders SET pay_by = 1 WHERE id = ?", id)
	require.NoError(w.T, w.Redis.ZAddXX(w.Ctx, Key("due"), redis.Z{Score: 1, Member: id}).Err())
}

// Expire makes an order that is not paid in time.
func (w *World) Expire(user string, units int) queue.Ticket {
	w.T.Helper()
	t := w.Confirm(user, units)
	w.PassDeadline(t.ID)
	require.NoError(w.T, w.Expirer.Expire(w.Ctx))
	require.Equal(w.T, order.Expired, w.Rows()[t.ID].Status)
	return t
}

// Bury takes one order to its death and returns its ticket.
func (w *World) Bury(user string, units int) queue.Ticket {
	w.T.Helper()
	ticket := w.Admit(user, units)
	b := w.Claim(1)
	outcomes, err := w.Fulfiller.Bury(w.Ctx, b, "gave up after 5 attempts")
	require.NoError(w.T, err)
	w.Settle(b, ByID(outcomes))
	require.Equal(w.T, order.Failed, w.Rows()[ticket.ID].Status)
	return ticket
}

// DeadLetters returns the dead letters of the line, for an operator.
func (w *World) DeadLetters() *deadletter.Admin {
	return deadletter.NewAdmin(w.DB, w.Lines, w.AdminLog(0))
}
