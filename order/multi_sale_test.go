package order_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/orders"
	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/order"
	"sluice/queue"
)

// openSales opens more sales beside the first and returns the names of all, not in their order.
func openSales(w *orders.World, stock int64, limit int) []string {
	w.T.Helper()
	names := []string{"zinnia", orders.Sale, "aster", "moss"}
	for _, id := range names {
		if id != orders.Sale {
			w.OpenSale(id, stock, limit)
		}
	}
	return names
}

// claimEach claims everything from each line.
func claimEach(w *orders.World, sales []string) []queue.Batch {
	w.T.Helper()
	var batches []queue.Batch
	for _, sale := range sales {
		b, err := w.Lines.Of(sale).Claim(w.Ctx, uuid.NewString(), 100, orders.Lease)
		require.NoError(w.T, err)
		require.NotEmpty(w.T, b.Tickets)
		batches = append(batches, b)
	}
	return batches
}

// admitTwoEach returns batches of two orders in each of four sales of a hundred units.
func admitTwoEach(w *orders.World, limit int) []queue.Batch {
	w.T.Helper()
	sales := openSales(w, 100, limit)
	for i := range 2 * len(sales) {
		w.AdmitTo(sales[i%len(sales)], fmt.Sprintf("user-%d", i), 1)
	}
	return claimEach(w, sales)
}

// handleEach handles and settles each batch by itself.
func handleEach(w *orders.World, batches []queue.Batch) map[string]int {
	w.T.Helper()
	all := map[string]queue.Outcome{}
	for _, b := range batches {
		outcomes, err := w.Fulfiller.Handle(w.Ctx, b)
		require.NoError(w.T, err)
		require.NoError(w.T, w.Lines.Of(b.Sale).Settle(w.Ctx, b, outcomes))
		for id, o := range orders.ByID(outcomes) {
			all[id] = o
		}
	}
	return orders.Ops(all)
}

func auditAll(w *orders.World) {
	w.T.Helper()
	result, err := w.Auditor.Run(w.Ctx, "")
	require.NoError(w.T, err)
	require.Equal(w.T, audit.Clean, result.Verdict, "%+v", result.Sales)
}

func TestMultiSaleBatchBecomesOrders(t *testing.T) {
	orders.EachUnpaid(t, 1000, 2, func(w *orders.World) {
		sales := openSales(w, 500, 2)
		want := map[string]queue.Ticket{}
		for i := range 40 {
			sale := sales[i%len(sales)]
			ticket := w.AdmitTo(sale, fmt.Sprintf("user-%d", i), 1+i%2)
			want[ticket.ID] = ticket
		}
		w.Exec("UPDATE sales SET price_cents = 123, currency = 'EUR', version = version + 1 WHERE id = 'aster'")
		w.CatchUp()
		batches := claimEach(w, sales)
		answers, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
		require.NoError(w.T, err)
		require.EqualValues(w.T, 1, w.Commits.Load(), "announced once, after the commit")
		rows := w.Rows()
		require.Len(w.T, rows, 40)
		tags := map[string]bool{}
		for i, b := range batches {
			require.Len(w.T, answers[i], len(b.Tickets))
			for n, ticket := range b.Tickets {
				price, currency := int64(9900), "CNY"
				if b.Sale == "aster" {
					price, currency = 123, "EUR"
				}
				row := rows[ticket.ID]
				tags[row.BatchID] = true
				require.Equal(w.T, queue.Outcome{ID: ticket.ID, Op: queue.OpConfirm, At: answers[i][n].At,
					Pay: answers[i][n].Pay, Ledger: answers[i][n].Ledger}, answers[i][n])
				require.Equal(w.T, row.ConfirmedAt, answers[i][n].At.UnixMilli())
				require.Equal(w.T, row.PayBy, answers[i][n].Pay.UnixMilli())
				require.Positive(w.T, row.PayBy)
				require.Equal(w.T, order.Row{ID: ticket.ID, SaleID: b.Sale, UserID: ticket.User, Slot: &ticket.Slot,
					Quantity: ticket.Units, PriceCents: price, Currency: currency,
					Status: order.Confirmed, Email: ticket.Email, Seq: ticket.Seq, Epoch: b.Epoch,
					BatchID: row.BatchID, Fingerprint: "print", Position: ticket.Position,
					ETASeconds: ticket.ETASeconds, Released: 1, AdmittedAt: want[ticket.ID].AdmittedAt.UnixMilli(),
					ConfirmedAt: row.ConfirmedAt, PayBy: row.PayBy}, row)
			}
			require.NoError(w.T, w.Lines.Of(b.Sale).Settle(w.Ctx, b, answers[i]))
		}
		require.Len(w.T, tags, 1, "one transaction")
		require.Equal(w.T, map[string]int{"order.confirmed stream": 40, "order.confirmed email": 40}, w.News())
		var wrong int64
		require.NoError(w.T, w.DB.Read.Table("outbox").Joins("JOIN orders ON orders.id = outbox.order_id").
			Where("orders.sale_id <> outbox.sale_id OR orders.user_id <> outbox.user_id").Count(&wrong).Error)
		require.Zero(w.T, wrong, "news of another sale or user")
		auditAll(w)
	})
}

// A multi-sale batch of which one ticket cannot be an order makes none. Each batch by itself then says what is the
// matter with which.
func TestMultiSaleBatchThatDoesNotFit(t *testing.T) {
	cases := map[string]struct {
		spoil func(w *orders.World, batches []queue.Batch)
		want  map[string]int
		err   error
	}{
		"delivered before": {func(w *orders.World, batches []queue.Batch) {
			_, err := w.Fulfiller.Handle(w.Ctx, batches[1])
			require.NoError(w.T, err)
		}, map[string]int{"c": 8}, nil},
		"the user holds another": {func(w *orders.World, batches []queue.Batch) {
			other := batches[2].Tickets[0]
			w.Exec("INSERT INTO orders (id, sale_id, user_id, slot, quantity, price_cents, currency, status, seq, "+
				"epoch, batch_id, admitted_at) VALUES ('of-old', ?, ?, ?, 1, 1, 'CNY', 'confirmed', 0, 1, 'old', 1)",
				batches[2].Sale, other.User, other.Slot)
			w.Exec("UPDATE stock SET available = available - 1 WHERE sale_id = ?", batches[2].Sale)
			w.Exec("UPDATE orders SET released = 1 WHERE id = 'of-old'")
		}, map[string]int{"c": 7, "f" + order.ReasonLimit: 1}, nil},
		"too few units": {func(w *orders.World, batches []queue.Batch) {
			w.Exec("UPDATE stock SET available = 1, total = 1 WHERE sale_id = ?", batches[3].Sale)
		}, map[string]int{"c": 7, "f" + order.ReasonSoldOut: 1}, inventory.ErrShort},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			orders.EachDatabase(t, 100, 1, func(w *orders.World) {
				batches := admitTwoEach(w, 1)
				c.spoil(w, batches)
				before, news := len(w.Rows()), w.News()
				_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
				require.Error(w.T, err)
				if c.err != nil {
					require.ErrorIs(w.T, err, c.err)
				}
				require.Len(w.T, w.Rows(), before, "all of it was rolled back")
				require.Equal(w.T, news, w.News())
				require.Equal(w.T, c.want, handleEach(w, batches))
			})
		})
	}
}

// Tickets of a line that was loaded anew make no orders, whoever they travel with.
func TestMultiSaleBatchWithALineLoadedAnew(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		batches := admitTwoEach(w, 1)
		w.Exec("UPDATE sales SET epoch = epoch + 1 WHERE id = ?", batches[1].Sale)
		_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
		require.ErrorIs(w.T, err, inventory.ErrStale)
		require.Empty(w.T, w.Rows())
		require.Empty(w.T, w.News())
		require.EqualValues(w.T, 100, w.Available())
	})
}

// What Redis forgot of a user counts in company, too.
func TestMultiSaleBatchKeepsTheLimit(t *testing.T) {
	orders.EachDatabase(t, 100, 2, func(w *orders.World) {
		batches := admitTwoEach(w, 2)
		w.Exec("INSERT INTO orders (id, sale_id, user_id, slot, quantity, price_cents, currency, status, seq, "+
			"epoch, batch_id, admitted_at) VALUES ('of-old', ?, ?, 2, 2, 1, 'CNY', 'confirmed', 0, 1, 'old', 1)",
			batches[2].Sale, batches[2].Tickets[0].User)
		_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
		require.Error(w.T, err)
		require.Len(w.T, w.Rows(), 1)
		require.Equal(w.T, map[string]int{"c": 7, "f" + order.ReasonLimit: 1}, handleEach(w, batches))
	})
}

// A ticket that has ended is no order.
func TestMultiSaleBatchWithACancelledTicket(t *testing.T) {
	orders.EachDatabase(t, 100, 1, func(w *orders.World) {
		sales := openSales(w, 100, 1)
		var gone queue.Ticket
		for i := range 8 {
			gone = w.AdmitTo(sales[i%len(sales)], fmt.Sprintf("user-%d", i), 1)
		}
		require.NoError(w.T, w.Lines.Of(sales[3]).Cancel(w.Ctx, gone.ID, gone.User))
		batches := claimEach(w, sales)
		_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
		require.ErrorContains(w.T, err, gone.ID)
		require.Empty(w.T, w.Rows())
		require.Equal(w.T, map[string]int{"c": 7, "k": 1}, handleEach(w, batches))
		auditAll(w)
	})
}

// Multi-sale batches of two workers with the same lines, in whatever order, wait for each other and go through.
func TestMultiSaleBatchesThatShareLines(t *testing.T) {
	orders.EachDatabase(t, 1000, 1, func(w *orders.World) {
		sales := openSales(w, 1000, 1)
		const rounds = 15
		done := make(chan error, 2)
		admit := func() []queue.Batch {
			for _, sale := range sales {
				w.AdmitTo(sale, fmt.Sprintf("user-%d", w.Tickets), 1)
			}
			return claimEach(w, sales)
		}
		for range rounds {
			first, second := admit(), admit()
			second[0], second[3], second[1], second[2] = second[3], second[0], second[2], second[1]
			for _, batches := range [][]queue.Batch{first, second} {
				go func() {
					_, err := w.Fulfiller.HandleMultiSale(w.Ctx, batches)
					done <- err
				}()
			}
			require.NoError(w.T, <-done)
			require.NoError(w.T, <-done)
		}
		require.EqualValues(w.T, 1000-2*rounds, w.Available())
	})
}
