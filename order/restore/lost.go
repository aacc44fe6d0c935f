package restore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// lossKept is for how long after a sale's line is dropped a missing order counts as lost. Its row may be gone for good
// reasons later, and then nobody knows what became of it.
const lossKept = 7 * 24 * time.Hour

// Losses records accepted orders that no store knows any more as failed, with the reason queue.ReasonLost.
// Safe for concurrent use.
type Losses struct {
	db       *store.DB
	lines    *queue.Lines
	channels []string
	onCommit func()
	log      *slog.Logger
	now      func() time.Time
	lost     *prometheus.CounterVec
	orders   *order.Inserter
}

// LossesParts are what Losses work with.
type LossesParts struct {
	DB       *store.DB
	Lines    *queue.Lines
	Channels []string // each order's news goes to the outbox for each of them
	OnCommit func()   // called after each commit
	Log      *slog.Logger
	Now      func() time.Time // Redis' clock
	Metrics  prometheus.Registerer
}

// NewLosses returns a recorder of losses.
func NewLosses(p LossesParts) *Losses {
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_lost_total",
		Help: "Accepted orders that no store knew any more and that were recorded as failed."}, []string{"sale"})
	p.Metrics.MustRegister(lost)
	return &Losses{db: p.DB, lines: p.Lines, channels: p.Channels, onCommit: p.OnCommit, log: p.Log, now: p.Now,
		lost: lost, orders: order.NewInserter(p.DB)}
}

// Record ends an order that was accepted and that neither the line nor the database knows. The caller vouches for t, of
// which ID, User, Units, AdmittedAt and Fingerprint count. An order that a store does know is returned as it is.
//
// The line learns of it first, which settles what happens with a receipt that is presented at the same time. Then comes
// the row, with its news. When the sale is over and its line dropped, the row alone is written.
//
// It returns queue.ErrNotReady while the line cannot be believed. It returns order.ErrNotFound for an order of
// another user, or long after the sale. Other errors mean that a store could not be asked.
func (l *Losses) Record(ctx context.Context, sale inventory.Sale, t queue.Ticket) (order.View, error) {
	now := l.now()
	if sale.Finished(now.Add(-lossKept)) {
		return order.View{}, order.ErrNotFound
	}
	if v, found, err := l.find(ctx, sale.ID, t); found || err != nil {
		return v, err
	}
	if ms := t.AdmittedAt.UnixMilli(); ms <= 0 || ms > now.UnixMilli() {
		t.AdmittedAt = now // it is not known: it was found missing now
	}
	t.Units = max(t.Units, 1)
	line, epoch := l.lines.Of(sale.ID), sale.Epoch
	lost, made, err := line.Lose(ctx, epoch, t)
	if errors.Is(err, queue.ErrNotReady) && sale.Finished(now) {
		lost, epoch = t, noEpoch
		lost.State, lost.Reason, lost.Seq, lost.At = queue.Failed, queue.ReasonLost, 0, now
		err = l.checkDropped(ctx, line)
	}
	switch {
	case err != nil:
		return order.View{}, err
	case lost.User != t.User:
		return order.View{}, order.ErrNotFound
	case lost.State != queue.Failed || lost.Reason != queue.ReasonLost:
		return order.ViewTicket(sale.ID, lost, lost.Seq-1), nil // it has come back just now
	}
	if made {
		l.count(lost, sale.ID)
	}
	return l.write(ctx, sale, epoch, lost)
}

// count counts and logs an order that was lost.
func (l *Losses) count(t queue.Ticket, sale string) {
	l.lost.WithLabelValues(sale).Inc()
	l.log.Warn("an accepted order was lost: it is recorded as failed", "sale", sale, "order", t.ID)
}

// noEpoch is of rows that belong to no loading of a line.
const noEpoch = 0

// find returns the order's row, if it has one.
func (l *Losses) find(ctx context.Context, sale string, t queue.Ticket) (order.View, bool, error) {
	var rows []order.Row
	if err := l.db.Write.WithContext(ctx).Where("id = ?", t.ID).Find(&rows).Error; err != nil {
		return order.View{}, false, fmt.Errorf("look for order %s of %s: %w", t.ID, sale, err)
	}
	if len(rows) == 0 {
		return order.View{}, false, nil
	}
	v, err := ownersOnly(rows[0], sale, t.User)
	return v, true, err
}

// checkDropped returns queue.ErrNotReady unless the line of a sale that is over is gone. A reconciler drops it once all
// of its orders have rows.
func (l *Losses) checkDropped(ctx context.Context, line *queue.Line) error {
	view, err := line.View(ctx)
	if err == nil && view.Exists {
		err = queue.ErrNotReady
	}
	return err
}

// write adds the row of a lost order and its news, unless it has one: a worker may be faster.
func (l *Losses) write(ctx context.Context, sale inventory.Sale, epoch int64, t queue.Ticket) (order.View, error) {
	var row order.Row
	made := false
	err := l.db.Tx(ctx, func(tx *gorm.DB) error {
		row, made = order.Row{}, false
		lost := l.row(sale, epoch, t)
		if _, err := l.orders.Insert(tx, []order.Row{lost}); err != nil {
			return err
		}
		if err := tx.Take(&row, "id = ?", t.ID).Error; err != nil {
			return err
		}
		if made = row.BatchID == lost.BatchID; !made {
			return nil
		}
		return notify.Insert(tx, lost.News(notify.EventFailed, l.channels, l.now()))
	})
	if err != nil {
		return order.View{}, fmt.Errorf("record the loss of order %s of %s: %w", t.ID, sale.ID, err)
	}
	if made {
		l.onCommit()
		if epoch == noEpoch {
			l.count(t, sale.ID)
		}
	}
	return ownersOnly(row, sale.ID, t.User)
}

func (l *Losses) row(sale inventory.Sale, epoch int64, t queue.Ticket) order.Row {
	r := order.NewRow(sale, epoch, &t)
	r.BatchID = l.tag()
	r.End(order.Failed, t.Reason, t.At.UnixMilli())
	return r
}

// tag marks the row of one run. It says where, but no time as order.NewTag does: no worker has claimed the
// order.
func (l *Losses) tag() string {
	return rand.Text() + "@" + order.InstanceMark(l.lines.InstanceNumber())
}

// ownersOnly shows a row to the owner of an order of the sale, and to nobody else.
func ownersOnly(r order.Row, sale, user string) (order.View, error) {
	if r.UserID != user || r.SaleID != sale {
		return order.View{}, order.ErrNotFound
	}
	return r.View(), nil
}
