package lookup

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"sluice/order"
)

// PaymentFilter picks the payments to list; an empty field means any.
type PaymentFilter struct {
	Outcome, Sale string
}

// PaymentCursor is a place in a list of payments.
type PaymentCursor struct {
	ReceivedAt int64 // unix ms
	ID         string
}

// String returns the cursor as clients carry it.
func (c PaymentCursor) String() string { return strconv.FormatInt(c.ReceivedAt, 10) + "_" + c.ID }

// ParsePaymentCursor reads what String wrote.
func ParsePaymentCursor(text string) (PaymentCursor, bool) {
	ms, id, ok := strings.Cut(text, "_")
	at, err := strconv.ParseInt(ms, 10, 64)
	return PaymentCursor{ReceivedAt: at, ID: id}, ok && err == nil && at >= 0 && order.ValidPaymentID(id)
}

// ListPayments returns up to limit payments, newest first; after is nil for the first page. The second result is the
// cursor of the next page, nil on the last.
func (f *Finder) ListPayments(ctx context.Context, only PaymentFilter, after *PaymentCursor, limit int) (
	[]order.PaymentRow, *PaymentCursor, error) {
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
	var rows []order.PaymentRow
	if err := query.Order("received_at DESC, payment_id DESC").Limit(limit + 1).Find(&rows).Error; err != nil {
		return nil, nil, fmt.Errorf("list payments: %w", err)
	}
	if len(rows) <= limit {
		return rows, nil, nil
	}
	last := rows[limit-1]
	return rows[:limit], &PaymentCursor{ReceivedAt: last.ReceivedAt, ID: last.PaymentID}, nil
}
