package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// Restorer puts orders back into a ledger that has lost them, from the line's records. Those know neither contact nor
// language. Safe for concurrent use, and by several processes at once.
type Restorer struct {
	db       *store.DB
	channels []string
	now      func() time.Time
	instance string
	orders   *inserter
}

// NewRestorer returns a restorer that queues the news of what it does for every channel.
func NewRestorer(db *store.DB, channels []string, now func() time.Time, instance string) *Restorer {
	return &Restorer{db: db, channels: channels, now: now, instance: instance, orders: newInserter(db)}
}

// Restore implements inventory.Restorer: all orders in one transaction, or, where they do not fit as a whole, one after
// the other. Those for which no unit or slot is left are recorded as failed, and their owners told.
func (r *Restorer) Restore(ctx context.Context, all inventory.Restoration) (inventory.Restored, error) {
	done, err := r.transact(ctx, all)
	if !apartOnly(err) {
		return done, err
	}
	var sum inventory.Restored
	for _, t := range all.Told {
		one := all
		one.Told = []queue.Ticket{t}
		done, err := r.transact(ctx, one)
		// An order that exists went in once: what refuses its data now is the database's, and the rebuild begins anew.
		if errors.Is(err, inventory.ErrShort) || store.RowFault(err) && !sold(t) {
			done, err = inventory.Restored{Refused: 1}, r.refuse(ctx, all.Sale, t)
		}
		if err != nil {
			return sum, err
		}
		sum.Orders, sum.Refused = sum.Orders+done.Orders, sum.Refused+done.Refused
	}
	return sum, nil
}

func sold(t queue.Ticket) bool { return t.State == queue.Confirmed || t.State == queue.Paid }

// apartOnly reports an error that may be one order's alone: its units are gone, or the database refuses its data.
func apartOnly(err error) bool { return errors.Is(err, inventory.ErrShort) || store.RowFault(err) }

// repair is one transaction's work.
type repair struct {
	*Restorer
	tx    *gorm.DB
	sale  inventory.Sale
	tag   string
	done  inventory.Restored
	taken int64 // units of orders that are live again
	back  int64 // units of orders that had ended after all
	news  []notify.Row
}

func (r *Restorer) transact(ctx context.Context, all inventory.Restoration) (done inventory.Restored, err error) {
	err = r.db.Tx(ctx, func(tx *gorm.DB) error {
		w := &repair{Restorer: r, tx: tx, sale: all.Sale, tag: newTag(r.now(), r.instance)}
		if err := w.run(all); err != nil {
			return err
		}
		done = w.done
		return nil
	})
	if err != nil {
		return inventory.Restored{}, fmt.Errorf("restore %d orders of %s: %w", len(all.Told), all.Sale.ID, err)
	}
	return done, nil
}

func (w *repair) run(all inventory.Restoration) error {
	stored, err := w.stored(all.Told)
	if err != nil {
		return err
	}
	var missing []queue.Ticket
	for _, t := range all.Told {
		row, known := stored[t.ID]
		switch {
		case !known:
			missing = append(missing, t)
		case resumable(row, t):
			if err := w.resume(row, t); err != nil {
				return err
			}
		case all.Behind, contradicts(row, t):
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

// stored are the rows of the orders that have one.
func (w *repair) stored(told []queue.Ticket) (map[string]Row, error) {
	ids := make([]string, len(told))
	for i, t := range told {
		ids[i] = t.ID
	}
	slices.Sort(ids)
	var rows []Row
	if err := store.ForUpdate(w.tx).Where("id IN ?", ids).Order("id").Find(&rows).Error; err != nil {
		return nil, err
	}
	stored := make(map[string]Row, len(rows))
	for _, row := range rows {
		stored[row.ID] = row
	}
	return stored, nil
}

// insert adds rows for orders that have none. Where somebody else has the slot by now the order is recorded as failed.
func (w *repair) insert(told []queue.Ticket) error {
	if len(told) == 0 {
		return nil
	}
	rows := make([]Row, len(told))
	for i, t := range told {
		rows[i] = w.row(t)
	}
	if _, err := w.orders.insert(w.tx, sortByID(rows)); err != nil {
		return err
	}
	stored, err := w.stored(told)
	if err != nil {
		return err
	}
	for _, t := range told {
		row, known := stored[t.ID]
		switch {
		case !known:
			if err := w.fail(t, 0); err != nil {
				return err
			}
		case row.BatchID != w.tag: // somebody else was faster
		default:
			w.tell(t)
			w.done.Orders++
			if row.Slot != nil {
				w.taken += int64(row.Quantity)
			}
		}
	}
	return nil
}

// fail records an order that cannot be put back, without what the first so many steps of lessened take.
func (w *repair) fail(t queue.Ticket, less int) error {
	if sold(t) {
		t.State, t.Reason, t.At = queue.Failed, queue.ReasonLost, w.now()
	}
	row := w.row(t)
	for _, lessen := range lessened()[:less] {
		lessen(&row)
	}
	if _, err := w.orders.insert(w.tx, []Row{row}); err != nil {
		return err
	}
	t.User = row.UserID
	w.tell(t)
	w.done.Refused++
	return nil
}

// refuse is fail in a transaction of its own. Where the row's own data is refused, it is written with less of it.
func (r *Restorer) refuse(ctx context.Context, sale inventory.Sale, t queue.Ticket) error {
	for less := 0; ; less++ {
		err := r.db.Tx(ctx, func(tx *gorm.DB) error {
			w := &repair{Restorer: r, tx: tx, sale: sale, tag: newTag(r.now(), r.instance)}
			if err := w.fail(t, less); err != nil {
				return err
			}
			return notify.Insert(tx, w.news)
		})
		if err == nil || !store.RowFault(err) || less == len(lessened()) {
			return err
		}
	}
}
