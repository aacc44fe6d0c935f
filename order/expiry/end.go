package order

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// batch ends what one line has handed out.
func (e *Expirer) batch(ctx context.Context, sale string, o queue.Overdue) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expireWait)
	defer cancel()
	killpoint.Pass("expire.claimed")
	return e.expire(ctx, sale, o.IDs, o.Now)
}

// expire ends those of the orders that are overdue by the database's word, and
// puts right what the line believes of the others.
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

// expired is what one transaction found among orders: those it has ended, and
// those that need not be.
type expired struct{ ended, others []Row }

// end is the one transaction: the orders are locked by id, so that two
// expirers wait for each other; the stock row comes last.
func (e *Expirer) end(ctx context.Context, sale string, ids []string, now time.Time) (done expired, err error) {
	err = e.db.Tx(ctx, func(tx *gorm.DB) error {
		done = expired{}
		var rows []Row
		if err := store.ForUpdate(tx).Where("id IN ? AND sale_id = ?", ids, sale).Order("id").Find(&rows).
			Error; err != nil {
			return err
		}
		var units int64
		var news []notify.Row
		var over []string
		for _, r := range rows {
			if r.Status != Confirmed || r.PayBy == 0 || r.PayBy > now.UnixMilli() {
				done.others = append(done.others, r)
				continue
			}
			done.ended, over, units = append(done.ended, r), append(over, r.ID), units+int64(r.Quantity)
			news = append(news, newsOf(queue.Ticket{ID: r.ID, User: r.UserID}, sale, notify.EventExpired, e.channels,
				now)...)
		}
		if len(done.ended) == 0 {
			return nil
		}
		changes := map[string]any{"status": Expired, "slot": nil, "released": 0, "ended_at": now.UnixMilli(),
			"ended_by": e.lines.Number()}
		changed := tx.Model(&Row{}).Where("id IN ? AND status = ?", over, Confirmed).Updates(changes)
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

// correct takes off the deadlines what has none: orders that were paid, which
// the line may not know, or that ended, or that no database has heard of.
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
		case r.Status == Paid:
			err = line.Pay(ctx, r.ID, atMS(r.ConfirmedAt), atMS(r.PaidAt))
		case r.Status == Confirmed && r.PayBy > now.UnixMilli():
			err = line.Postpone(ctx, r.ID, atMS(r.PayBy))
		case r.Released == 0: // its release takes it off
		default:
			continue
		}
		if err != nil {
			return err
		}
		delete(unknown, r.ID)
	}
	rest := make([]string, 0, len(unknown))
	for id := range unknown {
		rest = append(rest, id)
	}
	return line.Undue(ctx, rest)
}

// Sweep ends what is long overdue by the database's own word: orders whose
// deadline Redis forgot.
func (e *Expirer) Sweep(ctx context.Context) error { return e.sweep(ctx, apart.New(expireAtOnce, 0)) }

// sweep gives a turn to each sale that has such orders. Where a page is full of
// sales that cannot be served, it goes on with the others.
func (e *Expirer) sweep(ctx context.Context, turns *apart.Rounds) error {
	now := e.now()
	var mu sync.Mutex
	var failed []error
	done := map[string]bool{}
	var without []string
	for range sweepPages {
		forgotten, full, err := e.forgotten(ctx, now, without)
		if err != nil {
			return err
		}
		sales := slices.Sorted(maps.Keys(forgotten))
		turns.Round(ctx, sales, func(ctx context.Context, sale string) error {
			if err := e.expire(ctx, sale, forgotten[sale], now); err != nil {
				return fmt.Errorf("expire forgotten orders of %s: %w", sale, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done[sale] = true
			return nil
		}, func(sale string, err error) {
			e.complain(ctx, sale, err)
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
		mu.Lock()
		undone := slices.DeleteFunc(sales, func(sale string) bool { return done[sale] })
		mu.Unlock()
		if without = append(without, undone...); !full || len(undone) == 0 {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(failed...)
}

// forgotten are the orders that are long overdue, by sale, of all but some
// sales; full says that there may be more. The index of the query holds unpaid
// orders only.
func (e *Expirer) forgotten(ctx context.Context, now time.Time, without []string) (ids map[string][]string, full bool,
	err error) {
	query := e.db.Read.WithContext(ctx).Select("id", "sale_id").
		Where("status = 'confirmed' AND pay_by > 0 AND pay_by <= ?", now.Add(-expireGrace).UnixMilli())
	if len(without) > 0 {
		query = query.Where("sale_id NOT IN ?", without)
	}
	var rows []Row
	if err := query.Order("pay_by").Limit(expireBatch).Find(&rows).Error; err != nil {
		return nil, false, fmt.Errorf("look for overdue orders: %w", err)
	}
	ids = make(map[string][]string)
	for _, r := range rows {
		ids[r.SaleID] = append(ids[r.SaleID], r.ID)
	}
	return ids, len(rows) == expireBatch, nil
}
