package payment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// Payer takes payments. A payment is recorded together with what it does to its order, in one transaction. So it has
// its effect once, however often the provider sends it. Safe for concurrent use.
type Payer struct {
	db       *store.DB
	lines    *queue.Lines
	sales    *inventory.SaleStore
	lease    time.Duration
	channels []string
	onCommit func()
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
}

// Parts are what a Payer works with.
type Parts struct {
	DB       *store.DB
	Lines    *queue.Lines
	Sales    *inventory.SaleStore
	Lease    time.Duration // how long a late payment may take before a worker clears up behind it
	Channels []string      // each order's news goes to the outbox for each of them
	OnCommit func()        // called after each commit
	Log      *slog.Logger
	Now      func() time.Time // Redis' clock, by which the deadlines are set
	Metrics  prometheus.Registerer
}

// NewPayer returns a payer.
func NewPayer(p Parts) *Payer {
	return &Payer{db: p.DB, lines: p.Lines, sales: p.Sales, lease: p.Lease, channels: p.Channels, onCommit: p.OnCommit,
		log: p.Log, now: p.Now, metrics: newMetrics(p.Metrics)}
}

// Pay takes a payment for an order of a sale. The same payment again gets the same answer. A payment of another amount
// than the order costs is recorded like any other that must go back.
//
// It returns order.ErrNotFound, ErrUnconfirmed while the order is in line, and ErrConflict. It returns order.ErrBusy
// or a store's error when the payment must be sent again.
func (p *Payer) Pay(ctx context.Context, sale, id string, payment Payment) (Result, error) {
	killpoint.Pass("pay.before")
	done, err := p.record(ctx, sale, id, payment, payInTime)
	if errors.Is(err, errLate) {
		done, err = p.payLate(ctx, sale, id, payment)
	}
	if errors.Is(err, order.ErrNotFound) {
		err = p.unrecorded(ctx, sale, id)
	}
	p.metrics.count(done, err)
	if err != nil {
		return Result{}, fmt.Errorf("pay order %s: %w", id, err)
	}
	killpoint.Pass("pay.committed")
	p.onCommit()
	if !done.repeated {
		p.log.Info("payment recorded", "sale", sale, "order", id, "outcome", done.payment.Outcome)
		if done.row.Status == order.Paid && !mustGoBack(done.payment.Outcome) {
			p.metrics.finished.WithLabelValues(sale, order.Paid).Inc()
		}
	}
	if done.row.Status == order.Paid || done.row.Refund != "" {
		p.show(ctx, done.row)
	}
	killpoint.Pass("pay.shown")
	return Result{Order: done.row.View(), Outcome: done.payment.Outcome, Repeated: done.repeated}, nil
}

// unrecorded answers for an order without a row.
func (p *Payer) unrecorded(ctx context.Context, sale, id string) error {
	tickets, _, err := p.lines.Of(sale).Lookup(ctx, []string{id})
	if err != nil {
		return err
	}
	if _, ok := tickets[id]; ok {
		return ErrUnconfirmed
	}
	return order.ErrNotFound
}

// recorded is what a transaction left behind.
type recorded struct {
	row      order.Row
	payment  order.PaymentRow
	repeated bool
	change   int64 // of the ledger, by a late payment; 0: none
}

// record makes the one transaction of a payment. It locks the order, does what decide says to it and writes that
// down, unless the payment is there already.
func (p *Payer) record(ctx context.Context, sale, id string, payment Payment,
	decide func(order.Row, time.Time) (decision, error)) (recorded, error) {
	var done recorded
	err := p.db.Tx(ctx, func(tx *gorm.DB) error {
		done = recorded{}
		err := store.ForUpdate(tx).Take(&done.row, "id = ? AND sale_id = ?", id, sale).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return order.ErrNotFound
		}
		if err != nil {
			return err
		}
		err = tx.Take(&done.payment, "payment_id = ?", payment.ID).Error
		if err == nil && !payment.repeats(done.payment, id) {
			return ErrConflict
		}
		if err == nil {
			done.repeated = true
			return nil
		}
		if !errors.Is(err, gorm.ErrRecordNotFound) {
			return err
		}
		now := p.now()
		d := decision{outcome: order.PaymentMismatch}
		if payment.matches(done.row) {
			if d, err = decide(done.row, now); err != nil {
				return err
			}
		}
		done.payment = payment.row(done.row, d, now)
		done.payment.TakenBy = p.lines.InstanceNumber()
		return p.apply(tx, &done, d, now)
	})
	return done, err
}

// apply writes a decision: the order, the payment, the news, and last the hot stock row.
func (p *Payer) apply(tx *gorm.DB, done *recorded, d decision, now time.Time) error {
	row := &done.row
	if d.changes != nil {
		changed := tx.Model(&order.Row{}).Where("id = ? AND status = ?", row.ID, row.Status).Updates(d.changes)
		if changed.Error != nil {
			return changed.Error
		}
		if changed.RowsAffected != 1 {
			return order.ErrBusy
		}
		row.Status, row.PaidAt, row.EndedAt = order.Paid, now.UnixMilli(), 0
	}
	if err := tx.Create(&done.payment).Error; err != nil {
		if store.Duplicate(err) {
			return ErrConflict // for another order, at this very moment
		}
		return err
	}
	event := notify.EventPaid
	if why := refundReason(*row, d.outcome); why != "" {
		event = notify.EventRefundRequired
		if err := flagRefund(tx, row, why); err != nil {
			return err
		}
	}
	if err := notify.Insert(tx, row.News(event, p.channels, now)); err != nil {
		return err
	}
	if d.reclaimed != nil {
		var err error
		done.change, err = takeAgain(tx, *row, *d.reclaimed)
		return err
	}
	return nil
}

// flagRefund keeps with the order why its first payment that must go back must. So showing an order never asks for its
// payments.
func flagRefund(tx *gorm.DB, row *order.Row, why string) error {
	if row.Refund != "" {
		return nil
	}
	row.Refund = why
	return tx.Model(&order.Row{}).Where("id = ?", row.ID).Update("refund", why).Error
}
