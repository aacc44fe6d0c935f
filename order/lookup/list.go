package order

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"
)

// Cursor is a place in a list that is sorted by admission, newest first.
type Cursor struct {
	AdmittedAt int64 // unix ms
	ID         string
}

// String is the cursor as clients carry it.
func (c Cursor) String() string { return strconv.FormatInt(c.AdmittedAt, 10) + "_" + c.ID }

// ParseCursor reads what String wrote.
func ParseCursor(text string) (Cursor, bool) {
	ms, id, ok := strings.Cut(text, "_")
	at, err := strconv.ParseInt(ms, 10, 64)
	return Cursor{AdmittedAt: at, ID: id}, ok && err == nil && at >= 0 && id != "" && len(id) <= 36 &&
		strings.IndexFunc(id, unprintable) < 0
}

// unprintable finds what no order id holds and some databases refuse to compare.
func unprintable(r rune) bool { return r <= ' ' || r >= 0x7f }

func (c Cursor) before(v View) bool {
	return cmp.Or(cmp.Compare(v.AdmittedAt.UnixMilli(), c.AdmittedAt), strings.Compare(v.ID, c.ID)) < 0
}

// Page is a part of a user's orders.
type Page struct {
	Orders []View
	Next   *Cursor  // of the next page; nil on the last
	Unread []string // sales whose line could not be read: orders that still wait there are missing
}

// ListByUser returns up to limit of a user's orders, newest first, those still
// in line included; after is nil for the first page. A line that cannot be read
// keeps none of the other orders from being shown.
func (f *Finder) ListByUser(ctx context.Context, user string, after *Cursor, limit int) (Page, error) {
	// The line first: an order that leaves it in between is in the database by then.
	waiting, unread, err := f.inLine(ctx, user)
	if err != nil {
		return Page{}, err
	}
	rows, err := page(f.db.Read.WithContext(ctx).Where("user_id = ?", user), after, limit+1)
	if err != nil {
		return Page{}, err
	}
	views := make([]View, 0, len(rows)+len(waiting))
	seen := make(map[string]bool, len(rows))
	for _, r := range rows {
		seen[r.ID] = true
		views = append(views, viewOfRow(r))
	}
	for _, v := range waiting {
		if !seen[v.ID] && (after == nil || after.before(v)) {
			views = append(views, v)
		}
	}
	views, next, err := cut(views, limit)
	return Page{Orders: views, Next: next, Unread: unread}, err
}

// ListBySale returns up to limit orders of a sale that the database holds,
// newest first.
func (f *Finder) ListBySale(ctx context.Context, sale string, after *Cursor, limit int) ([]View, *Cursor, error) {
	rows, err := page(f.db.Read.WithContext(ctx).Where("sale_id = ?", sale), after, limit+1)
	if err != nil {
		return nil, nil, err
	}
	views := make([]View, len(rows))
	for i, r := range rows {
		views[i] = viewOfRow(r)
	}
	return cut(views, limit)
}

func page(query *gorm.DB, after *Cursor, limit int) ([]Row, error) {
	if after != nil {
		query = query.Where("admitted_at < ? OR (admitted_at = ? AND id < ?)", after.AdmittedAt, after.AdmittedAt,
			after.ID)
	}
	var rows []Row
	if err := query.Order("admitted_at DESC, id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	return rows, nil
}

func cut(views []View, limit int) ([]View, *Cursor, error) {
	slices.SortFunc(views, func(a, b View) int {
		return cmp.Or(b.AdmittedAt.Compare(a.AdmittedAt), strings.Compare(b.ID, a.ID))
	})
	if len(views) <= limit {
		return views, nil, nil
	}
	last := views[limit-1]
	return views[:limit], &Cursor{AdmittedAt: last.AdmittedAt.UnixMilli(), ID: last.ID}, nil
}

// inLine returns the orders of a user that have not settled yet, and the sales
// whose line could not be read. The error says that none could be.
func (f *Finder) inLine(ctx context.Context, user string) (views []View, unread []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	well, ill := f.asked()
	if len(well) == 0 {
		well, ill = ill, nil // it may be over by now
	}
	held, failed := f.lines.HeldBy(ctx, well, user)
	for sale, ids := range held {
		tickets, claimed, err := f.lines.Of(sale).Lookup(ctx, ids)
		if err != nil {
			failed[sale] = err
			continue
		}
		for _, t := range tickets {
			if v := viewOfTicket(sale, t, claimed); !v.LeftLine() && v.User == user {
				views = append(views, f.priced(v))
			}
		}
	}
	unread = append(ill, slices.Collect(maps.Keys(failed))...)
	slices.Sort(unread)
	if len(well) > 0 && len(failed) == len(well) {
		for _, err := range failed {
			return nil, nil, err
		}
	}
	return views, unread, nil
}

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
