package order

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
	"sluice/queue"
	"sluice/store"
)

// Payer takes payments. A payment is recorded together with what it does to
// its order, in one transaction, so it has its effect once however often the
// provider sends it. Safe for concurrent use.
type Payer struct {
	db       *store.DB
	lines    *queue.Lines
	sales    *inventory.SaleStore
	lease    time.Duration
	channels []string
	onCommit func()
	log      *slog.Logger
	now      func() time.Time
	metrics  *payerMetrics
}

// PayerParts are what a Payer works with.
type PayerParts struct {
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
func NewPayer(p PayerParts) *Payer {
	return &Payer{db: p.DB, lines: p.Lines, sales: p.Sales, lease: p.Lease, channels: p.Channels, onCommit: p.OnCommit,
		log: p.Log, now: p.Now, metrics: newPayerMetrics(p.Metrics)}
}

// Pay takes a payment for an order of a sale. The same payment again gets the
// same answer. It returns ErrNotFound, ErrUnconfirmed while the order is in
// line, ErrPaymentConflict, and ErrBusy or a store's error when it must be sent
// again. A payment of another amount than the order costs is recorded like any
// other that must go back.
func (p *Payer) Pay(ctx context.Context, sale, id string, payment Payment) (Paying, error) {
	killpoint.Pass("pay.before")
	done, err := p.record(ctx, sale, id, payment, inTime)
	if errors.Is(err, errLate) {
		done, err = p.payLate(ctx, sale, id, payment)
	}
	if errors.Is(err, ErrNotFound) {
		err = p.unrecorded(ctx, sale, id)
	}
	p.metrics.count(done, err)
	if err != nil {
		return Paying{}, fmt.Errorf("pay order %s: %w", id, err)
	}
	killpoint.Pass("pay.committed")
	p.onCommit()
	if !done.repeated {
		p.log.Info("payment recorded", "sale", sale, "order", id, "outcome", done.payment.Outcome)
		if done.row.Status == Paid && !mustGoBack(done.payment.Outcome) {
			p.metrics.finished.WithLabelValues(sale, Paid).Inc()
		}
	}
	if done.row.Status == Paid || done.row.Refund != "" {
		p.show(ctx, done.row)
	}
	killpoint.Pass("pay.shown")
	return Paying{Order: viewOfRow(done.row), Outcome: done.payment.Outcome, Repeated: done.repeated}, nil
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
	return ErrNotFound
}

// recorded is what a transaction left behind.
type recorded struct {
	row      Row
	payment  PaymentRow
	repeated bool
	change   int64 // of the ledger, by a late payment; 0: none
}

// decision is what a payment does.
type decision struct {
	outcome string
	changes map[string]any       // to the order; nil leaves it as it is
	revived *queue.ReclaimedUnit // whose units must come out of the ledger
}

// errLate sends an order that has expired to payLate.
var errLate = errors.New("the order has expired")

// inTime decides on a payment for an order as it stands. One that is overdue
// still holds its units until somebody has ended it: it is paid.
func inTime(row Row, now time.Time) (decision, error) {
	switch row.Status {
	case Confirmed:
		d := decision{outcome: PaymentAccepted, changes: map[string]any{"status": Paid, "paid_at": now.UnixMilli()}}
		if row.PayBy > 0 && row.PayBy <= now.UnixMilli() {
			d.outcome = PaymentLate
		}
		return d, nil
	case Expired:
		return decision{}, errLate
	}
	return decision{outcome: PaymentRefund}, nil
}

// record is the one transaction of a payment: the order is locked, and what
// decide says is done to it and written down, unless the payment is known.
func (p *Payer) record(ctx context.Context, sale, id string, payment Payment,
	decide func(Row, time.Time) (decision, error)) (recorded, error) {
	var done recorded
	err := p.db.Tx(ctx, func(tx *gorm.DB) error {
		done = recorded{}
		err := store.ForUpdate(tx).Take(&done.row, "id = ? AND sale_id = ?", id, sale).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		err = tx.Take(&done.payment, "payment_id = ?", payment.ID).Error
		if err == nil && !done.payment.repeats(id, payment) {
			return ErrPaymentConflict
		}
		if err == nil {
			done.repeated = true
			return nil
		}
		if !errors.Is(err, gorm.ErrRecordNotFound) {
			return err
		}
		now := p.now()
		d := decision{outcome: PaymentMismatch}
		if payment.AmountCents == done.row.PriceCents*int64(done.row.Quantity) &&
			payment.Currency == done.row.Currency {
			if d, err = decide(done.row, now); err != nil {
				return err
			}
		}
		done.payment = PaymentRow{PaymentID: payment.ID, OrderID: id, SaleID: sale, AmountCents: payment.AmountCents,
			Currency: payment.Currency,
			Outcome:  d.outcome, ReceivedAt: now.UnixMilli(), TakenBy: p.lines.Number()}
		if d.revived != nil {
			done.payment.ExpiredAt, done.payment.ExpiredBy = done.row.EndedAt, done.row.EndedBy
		}
		if !payment.PaidAt.IsZero() {
			done.payment.PaidAt = payment.PaidAt.UnixMilli()
		}
		return p.apply(tx, &done, d, now)
	})
	return done, err
}

// apply writes a decision: the order, the payment, the news, and last the hot
// stock row.
func (p *Payer) apply(tx *gorm.DB, done *recorded, d decision, now time.Time) error {
	row := &done.row
	if d.changes != nil {
		changed := tx.Model(&Row{}).Where("id = ? AND status = ?", row.ID, row.Status).Updates(d.changes)
		if changed.Error != nil {
			return changed.Error
		}
		if changed.RowsAffected != 1 {
			return ErrBusy
		}
		row.Status, row.PaidAt, row.EndedAt = Paid, now.UnixMilli(), 0
	}
	if err := tx.Create(&done.payment).Error; err != nil {
		if store.Duplicate(err) {
			return ErrPaymentConflict // for another order, at this very moment
		}
		return err
	}
	event := notify.EventPaid
	if why := refundOf(*row, d.outcome); why != "" {
		event = notify.EventRefundRequired
		if err := flag(tx, row, why); err != nil {
			return err
		}
	}
	if err := notify.Insert(tx, newsOf(queue.Ticket{ID: row.ID, User: row.UserID}, row.SaleID, event, p.channels,
		now)); err != nil {
		return err
	}
	if d.revived != nil {
		var err error
		done.change, err = takeAgain(tx, *row, *d.revived)
		return err
	}
	return nil
}

// flag keeps with the order why its first payment that must go back must, so
// that showing an order never asks for its payments.
func flag(tx *gorm.DB, row *Row, why string) error {
	if row.Refund != "" {
		return nil
	}
	row.Refund = why
	return tx.Model(&Row{}).Where("id = ?", row.ID).Update("refund", why).Error
}

const (
	showWait = 2 * time.Second // for a line that is being rebuilt
	showPoll = 50 * time.Millisecond
)

// show makes the line show what the database knows. The payment stands
// without it; what is missed here is shown by the expirer at the deadline, a
// refund by the next rebuild.
func (p *Payer) show(ctx context.Context, row Row) {
	ctx, cancel := context.WithTimeout(ctx, showWait)
	defer cancel()
	line := p.lines.Of(row.SaleID)
	for {
		err := p.showOnce(ctx, line, row)
		if err == nil {
			return
		}
		timer := time.NewTimer(showPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			p.log.Warn("the line does not show a payment yet", "sale", row.SaleID, "order", row.ID, "error", err)
			return
		}
	}
}

func (p *Payer) showOnce(ctx context.Context, line *queue.Line, row Row) error {
	if row.Status == Paid {
		if err := line.Pay(ctx, row.ID, atMS(row.ConfirmedAt), atMS(row.PaidAt)); err != nil {
			return err
		}
	}
	if row.Refund == "" {
		return nil
	}
	return line.Refund(ctx, row.ID)
}
