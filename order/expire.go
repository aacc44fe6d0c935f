package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

const (
	expireEvery = 200 * time.Millisecond // how often each line is asked for what is overdue
	expireBatch = 500                    // orders ended in one transaction
	expireLease = 5 * time.Second        // after which another expirer takes over what was handed out
	expireWait  = 15 * time.Second       // for one batch, all stores together
	expireSweep = 15 * time.Second       // how often the database is asked for what Redis forgot
	expireGrace = 2 * expireLease        // how overdue an order is before the sweep takes it
)

// Expirer ends the orders that were not paid in time: their units return to
// both stores and their users' slots are free. Each line knows its deadlines,
// so nothing scans tables; any number of expirers may run.
type Expirer struct {
	db       *store.DB
	lines    *queue.Lines
	keeper   *inventory.Keeper
	sales    func() []string
	channels []string
	told     func()
	log      *slog.Logger
	now      func() time.Time
	metrics  *expirerMetrics
}

// NewExpirer returns an expirer over the lines of the sales that sales()
// returns; keeper brings their units back into the line, and now is Redis'
// clock.
func NewExpirer(db *store.DB, lines *queue.Lines, keeper *inventory.Keeper, sales func() []string, channels []string, told func(),
	log *slog.Logger, now func() time.Time, reg prometheus.Registerer) *Expirer {
	return &Expirer{db: db, lines: lines, keeper: keeper, sales: sales, channels: channels, told: told, log: log, now: now, metrics: newExpirerMetrics(reg)}
}

// Run expires until ctx ends; a batch that has begun is finished.
func (e *Expirer) Run(ctx context.Context) {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	sweep := time.NewTicker(expireSweep)
	defer sweep.Stop()
	var last string
	for {
		select {
		case <-ticker.C:
		case <-sweep.C:
			if err := e.Sweep(ctx); err != nil && ctx.Err() == nil {
				e.log.Warn("the database was not swept for overdue orders", "error", err)
			}
		case <-ctx.Done():
			return
		}
		err := e.Expire(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			e.log.Warn("overdue orders are not expired", "error", err)
		}
		last = ""
		if err != nil {
			last = err.Error()
		}
	}
}

// Expire ends what is overdue now, by the deadlines in Redis: all lines are
// asked at once, as often as one of them has more. After a fault what was
// handed out comes back with its lease.
func (e *Expirer) Expire(ctx context.Context) error {
	var failed []error
	for sales := e.sales(); len(sales) > 0; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		found, err := e.overdue(ctx, sales)
		failed = append(failed, err)
		var more []string
		for _, sale := range sales {
			o, ok := found[sale]
			if !ok {
				continue
			}
			if err := e.batch(ctx, sale, o); err != nil {
				failed = append(failed, fmt.Errorf("expire orders of %s: %w", sale, err))
			} else if len(o.IDs) == expireBatch {
				more = append(more, sale)
			}
		}
		sales = more
	}
	return errors.Join(failed...)
}

func (e *Expirer) overdue(ctx context.Context, sales []string) (map[string]queue.Overdue, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expireWait)
	defer cancel()
	return e.lines.Overdue(ctx, sales, expireBatch, expireLease)
}

// batch ends what one line has handed out.
func (e *Expirer) batch(ctx context.Context, sale string, o queue.Overdue) error {
	e.metrics.due.WithLabelValues(sale).Set(float64(o.Unpaid))
	if len(o.IDs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expireWait)
	defer cancel()
	killpoint.Pass("expire.claimed")
	return e.expire(ctx, sale, o.IDs, o.Now)
}

// expire ends those of the orders that are overdue by the database's word, and
// puts right what the line believes of the others.
func (e *Expirer) expire(ctx context.Context, sale string, ids []string, now time.Time) error {
	ended, others, err := e.end(ctx, sale, ids, now)
	if err != nil {
		return err
	}
	killpoint.Pass("expire.committed")
	if len(ended) > 0 {
		e.told()
		e.metrics.expired(sale, ended, now)
		e.log.Info("orders expired unpaid", "sale", sale, "orders", len(ended))
		if err := e.keeper.Release(ctx, sale); err != nil {
			e.log.Warn("expired units are not yet back in the line: the keeper brings them", "sale", sale, "error", err)
		}
	}
	killpoint.Pass("expire.released")
	return e.correct(ctx, sale, ids, ended, others, now)
}

// end is the one transaction: the orders are locked by id, so that two
// expirers wait for each other; the stock row comes last.
func (e *Expirer) end(ctx context.Context, sale string, ids []string, now time.Time) (ended, others []Row, err error) {
	err = e.db.Tx(ctx, func(tx *gorm.DB) error {
		var rows []Row
		ended, others = nil, nil
		if err := store.ForUpdate(tx).Where("id IN ? AND sale_id = ?", ids, sale).Order("id").Find(&rows).Error; err != nil {
			return err
		}
		var units int64
		var news []notify.Row
		var over []string
		for _, r := range rows {
			if r.Status != Confirmed || r.PayBy == 0 || r.PayBy > now.UnixMilli() {
				others = append(others, r)
				continue
			}
			ended, over, units = append(ended, r), append(over, r.ID), units+int64(r.Quantity)
			news = append(news, newsOf(queue.Ticket{ID: r.ID, User: r.UserID}, sale, notify.EventExpired, e.channels, now)...)
		}
		if len(ended) == 0 {
			return nil
		}
		changes := map[string]any{"status": Expired, "slot": nil, "released": 0, "ended_at": now.UnixMilli(), "ended_by": e.lines.Number()}
		done := tx.Model(&Row{}).Where("id IN ? AND status = ?", over, Confirmed).Updates(changes)
		if done.Error != nil {
			return done.Error
		}
		if done.RowsAffected != int64(len(over)) {
			return fmt.Errorf("%d of %d locked orders changed meanwhile", int64(len(over))-done.RowsAffected, len(over))
		}
		if err := notify.Insert(tx, news); err != nil {
			return err
		}
		killpoint.Pass("expire.before-commit")
		return inventory.Return(tx, sale, units)
	})
	return ended, others, err
}

// correct takes off the deadlines what has none: orders that were paid, which
// the line may not know, or that ended, or that no database has heard of.
func (e *Expirer) correct(ctx context.Context, sale string, ids []string, ended, others []Row, now time.Time) error {
	line := e.lines.Of(sale)
	unknown := make(map[string]bool, len(ids))
	for _, id := range ids {
		unknown[id] = true
	}
	for _, r := range ended {
		delete(unknown, r.ID)
	}
	for _, r := range others {
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
// deadline Redis forgot. Its index holds unpaid orders only.
func (e *Expirer) Sweep(ctx context.Context) error {
	now := e.now()
	var rows []Row
	err := e.db.Read.WithContext(ctx).Select("id", "sale_id").Where("status = 'confirmed' AND pay_by > 0 AND pay_by <= ?", now.Add(-expireGrace).UnixMilli()).
		Order("pay_by").Limit(expireBatch).Find(&rows).Error
	if err != nil {
		return fmt.Errorf("look for overdue orders: %w", err)
	}
	forgotten := make(map[string][]string)
	for _, r := range rows {
		forgotten[r.SaleID] = append(forgotten[r.SaleID], r.ID)
	}
	var failed []error
	for _, sale := range slices.Sorted(maps.Keys(forgotten)) {
		if err := e.expire(ctx, sale, forgotten[sale], now); err != nil {
			failed = append(failed, fmt.Errorf("expire forgotten orders of %s: %w", sale, err))
		}
	}
	return errors.Join(failed...)
}
