package order

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PaymentFilter says which payments to list; an empty field means any.
type PaymentFilter struct {
	Outcome, Sale string
}

// PaymentCursor is a place in a list of payments.
type PaymentCursor struct {
	ReceivedAt int64 // unix ms
	ID         string
}

// String is the cursor as clients carry it.
func (c PaymentCursor) String() string { return strconv.FormatInt(c.ReceivedAt, 10) + "_" + c.ID }

// ParsePaymentCursor reads what String wrote.
func ParsePaymentCursor(text string) (PaymentCursor, bool) {
	ms, id, ok := strings.Cut(text, "_")
	at, err := strconv.ParseInt(ms, 10, 64)
	return PaymentCursor{ReceivedAt: at, ID: id}, ok && err == nil && at >= 0 && ValidPaymentID(id)
}

// ListPayments returns up to limit payments, newest first; after is nil for
// the first page. The second result is the cursor of the next page, nil on the
// last.
func (f *Finder) ListPayments(ctx context.Context, only PaymentFilter, after *PaymentCursor, limit int) ([]PaymentRow,
	*PaymentCursor, error) {
	query := f.db.Read.WithContext(ctx)
	if only.Outcome != "" {
		query = query.Where("outcome = ?", only.Outcome)
	}
	if only.Sale != "" {
		query = query.Where("sale_id = ?", only.Sale)
	}
	if after != nil {
		query = query.Where("received_at < ? OR (received_at = ? AND payment_id < ?)", after.ReceivedAt,
			after.ReceivedAt, after.ID)
	}
	var rows []PaymentRow
	if err := query.Order("received_at DESC, payment_id DESC").Limit(limit + 1).Find(&rows).Error; err != nil {
		return nil, nil, fmt.Errorf("list payments: %w", err)
	}
	if len(rows) <= limit {
		return rows, nil, nil
	}
	last := rows[limit-1]
	return rows[:limit], &PaymentCursor{ReceivedAt: last.ReceivedAt, ID: last.PaymentID}, nil
}

// paid are the payments of an order, newest first.
type paid []PaymentRow

func (t *Timelines) payments(ctx context.Context, id string) (paid, error) {
	var rows paid
	err := t.db.Read.WithContext(ctx).Where("order_id = ?", id).Order("received_at DESC").Limit(100).Find(&rows).Error
	return rows, err
}

// into adds what payments tell to an order's events. One that was simply accepted is the step paid of the order itself;
// a late one knows when the order had expired before.
func (rows paid) into(events []Event, admitted time.Time) []Event {
	for _, r := range rows {
		if r.Outcome == PaymentAccepted || r.Outcome == PaymentLate {
			for i := range events {
				if events[i].Step == Paid {
					events[i].by = r.TakenBy
				}
			}
		}
		if r.ExpiredAt > 0 {
			events = append(events, Event{At: atMS(r.ExpiredAt), Step: Expired,
				Took: max(atMS(r.ExpiredAt).Sub(admitted), 0), by: r.ExpiredBy})
		}
		if r.Outcome != PaymentAccepted {
			events = append(events, Event{At: atMS(r.ReceivedAt), Step: "payment " + r.Outcome, by: r.TakenBy,
				Reason: fmt.Sprintf("%s: %d.%02d %s", r.PaymentID, r.AmountCents/100, r.AmountCents%100, r.Currency)})
		}
	}
	return events
}
