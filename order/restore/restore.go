// Package restore records what a store has lost: orders that the ledger forgot, and orders that nobody knows any more.
package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// Restorer puts orders back into a ledger that has lost them, from the line's records. Those know neither contact nor
// language. It is safe for concurrent use, and for use by several processes at once.
type Restorer struct {
	db       *store.DB
	channels []string
	now      func() time.Time
	instance string
	orders   *order.Inserter
}

// NewRestorer returns a restorer that queues the news of what it does for every channel.
func NewRestorer(db *store.DB, channels []string, now func() time.Time, instance string) *Restorer {
	return &Restorer{db: db, channels: channels, now: now, instance: instance, orders: order.NewInserter(db)}
}

// Restore implements reconcile.Restorer. It restores all orders in one transaction, or, where they do not fit as a
// whole, one after the other. It records those for which no unit or slot is left as failed, and notifies their owners.
func (r *Restorer) Restore(ctx context.Context, all reconcile.Restoration) (reconcile.Restored, error) {
	done, err := r.transact(ctx, all)
	if !mayBeOfOne(err) {
		return done, err
	}
	var sum reconcile.Restored
	for _, t := range all.Answered {
		one := all
		one.Answered = []queue.Ticket{t}
		done, err := r.transact(ctx, one)
		// An order that exists went in once: what refuses its data now is the database's, and the rebuild begins anew.
		if errors.Is(err, inventory.ErrShort) || store.RowFault(err) && !order.IsOrder(t) {
			done, err = reconcile.Restored{Refused: 1}, r.refuse(ctx, all.Sale, t)
		}
		if err != nil {
			return sum, err
		}
		sum.Orders, sum.Refused = sum.Orders+done.Orders, sum.Refused+done.Refused
	}
	return sum, nil
}

// mayBeOfOne reports an error that may be one order's alone: its units are gone, or the database refuses its data.
func mayBeOfOne(err error) bool { return errors.Is(err, inventory.ErrShort) || store.RowFault(err) }

// transact restores all orders in one transaction.
func (r *Restorer) transact(ctx context.Context, all reconcile.Restoration) (done reconcile.Restored, err error) {
	err = r.db.Tx(ctx, func(tx *gorm.DB) error {
		w := r.begin(tx, all.Sale)
		if err := w.run(all); err != nil {
			return err
		}
		done = w.done
		return nil
	})
	if err != nil {
		return reconcile.Restored{}, fmt.Errorf("restore %d orders of %s: %w", len(all.Answered), all.Sale.ID, err)
	}
	return done, nil
}

// refuse records an order as failed, in a transaction of its own. Where the row's own data is refused, it is written
// with less of it.
func (r *Restorer) refuse(ctx context.Context, sale inventory.Sale, t queue.Ticket) error {
	for less := 0; ; less++ {
		err := r.db.Tx(ctx, func(tx *gorm.DB) error {
			w := r.begin(tx, sale)
			if err := w.fail(t, less); err != nil {
				return err
			}
			return notify.Insert(tx, w.news)
		})
		if err == nil || !store.RowFault(err) || less == len(order.Reductions()) {
			return err
		}
	}
}
