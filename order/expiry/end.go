package expiry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// expireBatch ends what one line has handed out.
func (e *Expirer) expireBatch(ctx context.Context, sale string, o queue.Overdue) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	killpoint.Pass("expire.claimed")
	return e.expire(ctx, sale, o.IDs, o.Now)
}

// expire ends those of the orders that are overdue by the database's word. It corrects what the line believes of the
// others.
func (e *Expirer) expire(ctx context.Context, sale string, ids []string, now time.Time) error {
	done, err := e.end(ctx, sale, ids, now)
	if err != nil {
		return err
	}
	killpoint.Pass("expire.committed")
	if len(done.ended) > 0 {
		e.onCommit()
		e.metrics.expired(sale, done.ended, now)
		e.log.Info("orders expired unpaid", "sale", sale, "orders", len(done.ended))
		if err := e.reconciler.Release(ctx, sale); err != nil {
			e.log.Warn("expired units are not yet back in the line: the reconciler brings them", "sale", sale,
				"error", err)
		}
	}
	killpoint.Pass("expire.released")
	return e.correct(ctx, sale, ids, done, now)
}

// expired is what one transaction found among orders: those it has ended, and those that need not be.
type expired struct{ ended, others []order.Row }

// end makes the one transaction that ends orders. It locks them by id, so two expirers wait for each other. It locks
// the orders by id, so that two expirers wait for each other. The stock row comes last.
func (e *Expirer) end(ctx context.Context, sale string, ids []string, now time.Time) (done expired, err error) {
	err = e.db.Tx(ctx, func(tx *gorm.DB) error {
		done = expired{}
		var rows []order.Row
		if err := store.ForUpdate(tx).Where("id IN ? AND sale_id = ?", ids, sale).Order("id").Find(&rows).
			Error; err != nil {
			return err
		}
		var units int64
		var news []notify.Row
		var over []string
		for _, r := range rows {
			if r.Status != order.Confirmed || r.PayBy == 0 || r.PayBy > now.UnixMilli() {
				done.others = append(done.others, r)
				continue
			}
			done.ended, over, units = append(done.ended, r), append(over, r.ID), units+int64(r.Quantity)
			news = append(news, r.News(notify.EventExpired, e.channels, now)...)
		}
		if len(done.ended) == 0 {
			return nil
		}
		changes := map[string]any{"status": order.Expired, "slot": nil, "released": 0, "ended_at": now.UnixMilli(),
			"ended_by": e.lines.InstanceNumber()}
		changed := tx.Model(&order.Row{}).Where("id IN ? AND status = ?", over, order.Confirmed).Updates(changes)
		if changed.Error != nil {
			return changed.Error
		}
		if changed.RowsAffected != int64(len(over)) {
			return fmt.Errorf("%d of %d locked orders changed meanwhile", int64(len(over))-changed.RowsAffected,
				len(over))
		}
		if err := notify.Insert(tx, news); err != nil {
			return err
		}
		killpoint.Pass("expire.before-commit")
		return inventory.Return(tx, sale, units)
	})
	return done, err
}

// correct takes off the deadlines what has none. Those are orders that were paid, which the line may not know. Or
// they ended, or no database has heard of them.
func (e *Expirer) correct(ctx context.Context, sale string, ids []string, done expired, now time.Time) error {
	line := e.lines.Of(sale)
	unknown := make(map[string]bool, len(ids))
	for _, id := range ids {
		unknown[id] = true
	}
	for _, r := range done.ended {
		delete(unknown, r.ID)
	}
	for _, r := range done.others {
		var err error
		switch {
		case r.Status == order.Paid:
			err = line.Pay(ctx, r.ID, order.Time(r.ConfirmedAt), order.Time(r.PaidAt))
		case r.Status == order.Confirmed && r.PayBy > now.UnixMilli():
			err = line.Postpone(ctx, r.ID, order.Time(r.PayBy))
		case r.Released == 0: // its release takes it off
		default:
			continue
		}
		if err != nil {
			return err
		}
		delete(unknown, r.ID)
	}
	return line.Undue(ctx, slices.Collect(maps.Keys(unknown)))
}
