package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

const (
	expireEvery = 200 * time.Millisecond // how often each line is asked for what is overdue
	expireBatch = 500                    // orders ended in one transaction
	expireLease = 5 * time.Second        // after which another expirer takes over what was handed out
	expireWait  = 15 * time.Second       // for one batch, all stores together
	expireSweep = 15 * time.Second       // how often the database is asked for what Redis forgot
	expireGrace = 2 * expireLease        // how overdue an order is before the sweep takes it
	sweepPages  = 20                     // looks of one sweep at the database
	// expirePatience is how long a round waits: who takes longer goes on, and the others have their next turn.
	expirePatience = 500 * time.Millisecond
	expireAtOnce   = 8  // sales that are served at a time
	expireServers  = 16 // servers of a cluster that are asked at a time
)

// Expirer ends the orders that were not paid in time: their units return to
// both stores and their users' slots are free. Each line knows its deadlines,
// so nothing scans tables; any number of expirers may run.
type Expirer struct {
	db         *store.DB
	lines      *queue.Lines
	reconciler *inventory.Reconciler
	sales      func() []string
	channels   []string
	onCommit   func()
	log        *slog.Logger
	now        func() time.Time
	metrics    *expirerMetrics
	faults     apart.Troubles // sales, and servers, that cannot be served
}

// NewExpirer returns an expirer over the lines of the sales that sales()
// returns; reconciler brings their units back into the line, and now is Redis'
// clock.
func NewExpirer(db *store.DB, lines *queue.Lines, reconciler *inventory.Reconciler, sales func() []string,
	channels []string, onCommit func(),
	log *slog.Logger, now func() time.Time, reg prometheus.Registerer) *Expirer {
	return &Expirer{db: db, lines: lines, reconciler: reconciler, sales: sales, channels: channels, onCommit: onCommit,
		log: log, now: now, metrics: newExpirerMetrics(reg)}
}

// Run expires until ctx ends; a batch that has begun is finished.
func (e *Expirer) Run(ctx context.Context) {
	by := expiringFor(expirePatience)
	defer by.wait()
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	swept := e.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := e.now(); now.Sub(swept) >= expireSweep || now.Before(swept) {
			swept = now
			by.sweeps.Round(ctx, []string{"database"}, func(ctx context.Context, _ string) error {
				err := e.sweep(ctx, by.sales)
				e.well("database", err)
				return err
			}, func(_ string, err error) { e.complain(ctx, "database", err) })
		}
		_ = e.round(ctx, by) // it has logged what failed
	}
}

// expiring gives turns: to servers, for a question about all of their lines, to
// the sales that have something overdue, and to the sweep of the database.
type expiring struct{ servers, sales, sweeps *apart.Rounds }

func expiringFor(patience time.Duration) expiring {
	return expiring{servers: apart.New(expireServers, patience), sales: apart.New(expireAtOnce, patience),
		sweeps: apart.New(1, patience)}
}

func (b expiring) wait() {
	b.sweeps.Wait()
	b.servers.Wait() // they give turns to sales
	b.sales.Wait()
}

// Expire ends what is overdue now, by the deadlines in Redis: the lines of each
// server are asked at once, as often as one of them has more. After a fault
// what was handed out comes back with its lease.
func (e *Expirer) Expire(ctx context.Context) error { return e.round(ctx, expiringFor(0)) }

// round is Expire with turns: what fails or hangs holds up nothing else.
func (e *Expirer) round(ctx context.Context, by expiring) error {
	var mu sync.Mutex
	var failed []error
	fail := func(what string, err error) {
		e.complain(ctx, what, err)
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, err)
	}
	on := e.lines.ByServer(ctx, e.sales())
	by.servers.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		err := e.expireOn(ctx, on[server], by.sales, fail)
		e.well("server "+server, err)
		return err
	}, func(server string, err error) { fail("server "+server, err) })
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(append(failed, ctx.Err())...)
}

// complain logs a fault of a sale, a server or the database, once until it is over.
func (e *Expirer) complain(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	if begun, _ := e.faults.Note(what, err); begun {
		e.log.Warn("overdue orders are not expired", "what", what, "error", err)
	}
}

// well ends a complaint, unless err says that its cause stands.
func (e *Expirer) well(what string, err error) {
	if err == nil && e.faults.Any() {
		e.faults.Note(what, nil)
	}
}

// expireOn asks the lines of one server, and gives a turn to each sale that has
// something overdue, as often as one of them has more.
func (e *Expirer) expireOn(ctx context.Context, sales []string, turns *apart.Rounds, fail func(string, error)) error {
	var away error
	for len(sales) > 0 && ctx.Err() == nil && away == nil {
		var found map[string]queue.Overdue
		found, away = e.overdue(ctx, sales, fail)
		var mu sync.Mutex
		more := map[string]bool{}
		turns.Round(ctx, slices.Sorted(maps.Keys(found)), func(ctx context.Context, sale string) error {
			if err := e.batch(ctx, sale, found[sale]); err != nil {
				return fmt.Errorf("expire orders of %s: %w", sale, err)
			}
			e.well(sale, nil)
			mu.Lock()
			defer mu.Unlock()
			more[sale] = len(found[sale].IDs) == expireBatch
			return nil
		}, fail)
		sales = sales[:0:0]
		mu.Lock()
		for sale, has := range more {
			if has {
				sales = append(sales, sale)
			}
		}
		mu.Unlock()
	}
	return away
}

// overdue asks lines, and returns what those that have something overdue hand
// out. The error is of their server.
func (e *Expirer) overdue(ctx context.Context, sales []string,
	fail func(string, error)) (found map[string]queue.Overdue, away error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expireWait)
	defer cancel()
	found, failed := e.lines.Overdue(ctx, sales, expireBatch, expireLease)
	for sale, err := range failed {
		if redis.Unavailable(err) {
			away = err
		} else {
			fail(sale, err)
		}
	}
	for sale, o := range found {
		e.metrics.due.WithLabelValues(sale).Set(float64(o.Unpaid))
		if len(o.IDs) == 0 {
			delete(found, sale)
			e.well(sale, nil)
		}
	}
	return found, away
}

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
