package order_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// fair opens more sales beside the first and returns the names of all, not in their order.
func (w *world) fair(stock int64, limit int) []string {
	w.t.Helper()
	names := []string{"zinnia", theSale, "aster", "moss"}
	for _, id := range names {
		if id != theSale {
			w.openSale(id, stock, limit)
		}
	}
	return names
}

func (w *world) admitTo(sale, user string, units int) queue.Ticket {
	w.t.Helper()
	a := w.try(sale, w.request(user, units))
	require.NoError(w.t, a.Err)
	return a.Ticket
}

// claimEach claims everything from each line.
func (w *world) claimEach(sales []string) []queue.Batch {
	w.t.Helper()
	var batches []queue.Batch
	for _, sale := range sales {
		b, err := w.lines.Of(sale).Claim(w.ctx, uuid.NewString(), 100, lease)
		require.NoError(w.t, err)
		require.NotEmpty(w.t, b.Tickets)
		batches = append(batches, b)
	}
	return batches
}

// twoEach are batches of two orders in each of four sales of a hundred units.
func (w *world) twoEach(limit int) []queue.Batch {
	w.t.Helper()
	sales := w.fair(100, limit)
	for i := range 2 * len(sales) {
		w.admitTo(sales[i%len(sales)], fmt.Sprintf("user-%d", i), 1)
	}
	return w.claimEach(sales)
}

// apart handles and settles each batch by itself.
func (w *world) apart(batches []queue.Batch) map[string]int {
	w.t.Helper()
	all := map[string]queue.Outcome{}
	for _, b := range batches {
		outcomes, err := w.fulfiller.Handle(w.ctx, b)
		require.NoError(w.t, err)
		require.NoError(w.t, w.lines.Of(b.Sale).Settle(w.ctx, b, outcomes))
		for id, o := range byID(outcomes) {
			all[id] = o
		}
	}
	return ops(all)
}

func (w *world) allClean() {
	w.t.Helper()
	result, err := w.auditor.Run(w.ctx, "")
	require.NoError(w.t, err)
	require.Equal(w.t, inventory.VerdictClean, result.Verdict, "%+v", result.Sales)
}

func TestPartyBecomesOrders(t *testing.T) {
	eachUnpaid(t, 1000, 2, func(w *world) {
		sales := w.fair(500, 2)
		want := map[string]queue.Ticket{}
		for i := range 40 {
			sale := sales[i%len(sales)]
			ticket := w.admitTo(sale, fmt.Sprintf("user-%d", i), 1+i%2)
			want[ticket.ID] = ticket
		}
		w.exec("UPDATE sales SET price_cents = 123, currency = 'EUR', version = version + 1 WHERE id = 'aster'")
		w.keep()
		batches := w.claimEach(sales)
		answers, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
		require.NoError(w.t, err)
		require.EqualValues(w.t, 1, w.told.Load(), "told once, after the commit")
		rows := w.rows()
		require.Len(w.t, rows, 40)
		tags := map[string]bool{}
		for i, b := range batches {
			require.Len(w.t, answers[i], len(b.Tickets))
			for n, ticket := range b.Tickets {
				price, currency := int64(9900), "CNY"
				if b.Sale == "aster" {
					price, currency = 123, "EUR"
				}
				row := rows[ticket.ID]
				tags[row.BatchID] = true
				require.Equal(w.t, queue.Outcome{ID: ticket.ID, Op: queue.OpConfirm, At: answers[i][n].At,
					Pay: answers[i][n].Pay, Ledger: answers[i][n].Ledger}, answers[i][n])
				require.Equal(w.t, row.ConfirmedAt, answers[i][n].At.UnixMilli())
				require.Equal(w.t, row.PayBy, answers[i][n].Pay.UnixMilli())
				require.Positive(w.t, row.PayBy)
				require.Equal(w.t, order.Row{ID: ticket.ID, SaleID: b.Sale, UserID: ticket.User, Slot: &ticket.Slot,
					Quantity: ticket.Units, PriceCents: price, Currency: currency,
					Status: order.Confirmed, Email: ticket.Email, Seq: ticket.Seq, Epoch: b.Epoch,
					BatchID: row.BatchID, Fingerprint: "print", Position: ticket.Position,
					ETASeconds: ticket.ETASeconds, Released: 1, AdmittedAt: want[ticket.ID].AdmittedAt.UnixMilli(),
					ConfirmedAt: row.ConfirmedAt, PayBy: row.PayBy}, row)
			}
			require.NoError(w.t, w.lines.Of(b.Sale).Settle(w.ctx, b, answers[i]))
		}
		require.Len(w.t, tags, 1, "one transaction")
		require.Equal(w.t, map[string]int{"order.confirmed stream": 40, "order.confirmed email": 40}, w.news())
		var wrong int64
		require.NoError(w.t, w.db.Read.Table("outbox").Joins("JOIN orders ON orders.id = outbox.order_id").
			Where("orders.sale_id <> outbox.sale_id OR orders.user_id <> outbox.user_id").Count(&wrong).Error)
		require.Zero(w.t, wrong, "news of another sale or user")
		w.allClean()
	})
}

// A party of which one ticket cannot be an order makes none: each batch by itself then says what is the matter with
// which.
func TestPartyThatDoesNotFit(t *testing.T) {
	cases := map[string]struct {
		spoil func(w *world, batches []queue.Batch)
		want  map[string]int
		err   error
	}{
		"delivered before": {func(w *world, batches []queue.Batch) {
			_, err := w.fulfiller.Handle(w.ctx, batches[1])
			require.NoError(w.t, err)
		}, map[string]int{"c": 8}, nil},
		"the user holds another": {func(w *world, batches []queue.Batch) {
			other := batches[2].Tickets[0]
			w.exec("INSERT INTO orders (id, sale_id, user_id, slot, quantity, price_cents, currency, status, seq, "+
				"epoch, batch_id, admitted_at) VALUES ('of-old', ?, ?, ?, 1, 1, 'CNY', 'confirmed', 0, 1, 'old', 1)",
				batches[2].Sale, other.User, other.Slot)
			w.exec("UPDATE stock SET available = available - 1 WHERE sale_id = ?", batches[2].Sale)
			w.exec("UPDATE orders SET released = 1 WHERE id = 'of-old'")
		}, map[string]int{"c": 7, "f" + order.ReasonLimit: 1}, nil},
		"too few units": {func(w *world, batches []queue.Batch) {
			w.exec("UPDATE stock SET available = 1, total = 1 WHERE sale_id = ?", batches[3].Sale)
		}, map[string]int{"c": 7, "f" + order.ReasonSoldOut: 1}, inventory.ErrShort},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, 100, 1, func(w *world) {
				batches := w.twoEach(1)
				c.spoil(w, batches)
				before, news := len(w.rows()), w.news()
				_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
				require.Error(w.t, err)
				if c.err != nil {
					require.ErrorIs(w.t, err, c.err)
				}
				require.Len(w.t, w.rows(), before, "all of it was rolled back")
				require.Equal(w.t, news, w.news())
				require.Equal(w.t, c.want, w.apart(batches))
			})
		})
	}
}

// Tickets of a line that was loaded anew make no orders, whoever they travel with.
func TestPartyWithALineLoadedAnew(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		batches := w.twoEach(1)
		w.exec("UPDATE sales SET epoch = epoch + 1 WHERE id = ?", batches[1].Sale)
		_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
		require.ErrorIs(w.t, err, inventory.ErrStale)
		require.Empty(w.t, w.rows())
		require.Empty(w.t, w.news())
		require.EqualValues(w.t, 100, w.available())
	})
}

// What Redis forgot of a user counts in company, too.
func TestPartyKeepsTheLimit(t *testing.T) {
	eachDatabase(t, 100, 2, func(w *world) {
		batches := w.twoEach(2)
		w.exec("INSERT INTO orders (id, sale_id, user_id, slot, quantity, price_cents, currency, status, seq, "+
			"epoch, batch_id, admitted_at) VALUES ('of-old', ?, ?, 2, 2, 1, 'CNY', 'confirmed', 0, 1, 'old', 1)",
			batches[2].Sale, batches[2].Tickets[0].User)
		_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
		require.Error(w.t, err)
		require.Len(w.t, w.rows(), 1)
		require.Equal(w.t, map[string]int{"c": 7, "f" + order.ReasonLimit: 1}, w.apart(batches))
	})
}

// A ticket that has ended is no order.
func TestPartyWithACancelledTicket(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		sales := w.fair(100, 1)
		var gone queue.Ticket
		for i := range 8 {
			gone = w.admitTo(sales[i%len(sales)], fmt.Sprintf("user-%d", i), 1)
		}
		require.NoError(w.t, w.lines.Of(sales[3]).Cancel(w.ctx, gone.ID, gone.User))
		batches := w.claimEach(sales)
		_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
		require.ErrorContains(w.t, err, gone.ID)
		require.Empty(w.t, w.rows())
		require.Equal(w.t, map[string]int{"c": 7, "k": 1}, w.apart(batches))
		w.allClean()
	})
}

// A commit whose reply is lost makes the transaction run again, and that run finds orders there already: the batches
// are then handled one by one and take no unit twice.
func TestPartyWhoseCommitReplyIsLost(t *testing.T) {
	eachDatabase(t, 100, 1, func(w *world) {
		batches := w.twoEach(1)
		wire := &lossyPool{ConnPool: w.db.Write.Statement.ConnPool, lose: 1}
		w.db.Write.Statement.ConnPool = wire
		_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
		require.Error(w.t, err)
		require.Equal(w.t, 2, wire.begun, "the transaction ran twice")
		require.Equal(w.t, map[string]int{"c": 8}, w.apart(batches))
		require.Equal(w.t, map[string]int{"confirmed": 8}, w.count())
		require.EqualValues(w.t, 98, w.available())
		w.allClean()
	})
}

// Parties of two workers with the same lines, in whatever order, wait for each other and go through.
func TestPartiesThatShareLines(t *testing.T) {
	eachDatabase(t, 1000, 1, func(w *world) {
		sales := w.fair(1000, 1)
		const rounds = 15
		done := make(chan error, 2)
		admit := func() []queue.Batch {
			for _, sale := range sales {
				w.admitTo(sale, fmt.Sprintf("user-%d", w.tickets), 1)
			}
			return w.claimEach(sales)
		}
		for range rounds {
			first, second := admit(), admit()
			second[0], second[3], second[1], second[2] = second[3], second[0], second[2], second[1]
			for _, batches := range [][]queue.Batch{first, second} {
				go func() {
					_, err := w.fulfiller.HandleMultiSale(w.ctx, batches)
					done <- err
				}()
			}
			require.NoError(w.t, <-done)
			require.NoError(w.t, <-done)
		}
		require.EqualValues(w.t, 1000-2*rounds, w.available())
	})
}
