package restore

import (
	"slices"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// repair is one transaction that brings a ledger up to what the line knows.
type repair struct {
	*Restorer
	tx    *gorm.DB
	sale  inventory.Sale
	tag   string
	done  reconcile.Restored
	taken int64 // units of orders that are live again
	back  int64 // units of orders that had ended after all
	news  []notify.Row
}

func (r *Restorer) begin(tx *gorm.DB, sale inventory.Sale) *repair {
	return &repair{Restorer: r, tx: tx, sale: sale, tag: order.NewTag(r.now(), r.instance)}
}

// run brings the rows of all orders, their news and the stock up to date.
func (w *repair) run(all reconcile.Restoration) error {
	stored, err := w.lockRows(all.Answered)
	if err != nil {
		return err
	}
	var missing []queue.Ticket
	for _, t := range all.Answered {
		row, found := stored[t.ID]
		switch {
		case !found:
			missing = append(missing, t)
		case resumable(row, t):
			if err := w.resume(row, t); err != nil {
				return err
			}
		case all.Behind, row.Contradicts(t):
			if err := w.correct(row, t); err != nil {
				return err
			}
		}
	}
	if err := w.insert(missing); err != nil {
		return err
	}
	if err := notify.Insert(w.tx, w.news); err != nil {
		return err
	}
	return w.move()
}

// move changes the stock, last: its row is hot.
func (w *repair) move() error {
	if w.back > 0 {
		back := inventory.Taking{Sale: w.sale.ID, Epoch: w.sale.Epoch, Units: w.back}
		if _, err := inventory.GiveBack(w.tx, back); err != nil {
			return err
		}
	}
	if w.taken == 0 {
		return nil
	}
	_, err := inventory.Take(w.tx, inventory.Taking{Sale: w.sale.ID, Epoch: w.sale.Epoch, Units: w.taken})
	return err
}

// lockRows locks the rows of the orders that have one, and returns them by id.
func (w *repair) lockRows(tickets []queue.Ticket) (map[string]order.Row, error) {
	ids := make([]string, len(tickets))
	for i, t := range tickets {
		ids[i] = t.ID
	}
	slices.Sort(ids)
	var rows []order.Row
	if err := store.ForUpdate(w.tx).Where("id IN ?", ids).Order("id").Find(&rows).Error; err != nil {
		return nil, err
	}
	stored := make(map[string]order.Row, len(rows))
	for _, row := range rows {
		stored[row.ID] = row
	}
	return stored, nil
}

// insert adds rows for orders that have none. Where somebody else has the slot by now the order is recorded as failed.
func (w *repair) insert(tickets []queue.Ticket) error {
	if len(tickets) == 0 {
		return nil
	}
	rows := make([]order.Row, len(tickets))
	for i, t := range tickets {
		rows[i] = w.row(t)
	}
	if _, err := w.orders.Insert(w.tx, rows); err != nil {
		return err
	}
	stored, err := w.lockRows(tickets)
	if err != nil {
		return err
	}
	for _, t := range tickets {
		row, found := stored[t.ID]
		switch {
		case !found:
			if err := w.fail(t, 0); err != nil {
				return err
			}
		case row.BatchID != w.tag: // somebody else was faster
		default:
			w.queueNews(t)
			w.done.Orders++
			if row.Slot != nil {
				w.taken += int64(row.Quantity)
			}
		}
	}
	return nil
}

// fail records an order that cannot be put back, without what the first so many of order.Reductions take.
func (w *repair) fail(t queue.Ticket, less int) error {
	if order.IsOrder(t) {
		t.State, t.Reason, t.At = queue.Failed, queue.ReasonLost, w.now()
	}
	row := w.row(t)
	for _, reduce := range order.Reductions()[:less] {
		reduce(&row)
	}
	if _, err := w.orders.Insert(w.tx, []order.Row{row}); err != nil {
		return err
	}
	t.User = row.UserID
	w.queueNews(t)
	w.done.Refused++
	return nil
}
