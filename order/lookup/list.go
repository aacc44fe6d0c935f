package lookup

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

	"sluice/order"
)

// Cursor is a place in a list that is sorted by admission, newest first.
type Cursor struct {
	AdmittedAt int64 // unix ms
	ID         string
}

// String returns the cursor as clients carry it.
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

func (c Cursor) before(v order.View) bool {
	return cmp.Or(cmp.Compare(v.AdmittedAt.UnixMilli(), c.AdmittedAt), strings.Compare(v.ID, c.ID)) < 0
}

// Page is a part of a user's orders.
type Page struct {
	Orders []order.View
	Next   *Cursor  // of the next page; nil on the last
	Unread []string // sales whose line could not be read: orders that still wait there are missing
}

// ListByUser returns up to limit of a user's orders, newest first, those still in line included. The first page comes
// after nil. A line that cannot be read keeps none of the other orders from being shown.
func (f *Finder) ListByUser(ctx context.Context, user string, after *Cursor, limit int) (Page, error) {
	// The line first: an order that leaves it in between is in the database by then.
	waiting, unread, err := f.listInLine(ctx, user)
	if err != nil {
		return Page{}, err
	}
	rows, err := readPage(f.db.Read.WithContext(ctx).Where("user_id = ?", user), after, limit+1)
	if err != nil {
		return Page{}, err
	}
	views := make([]order.View, 0, len(rows)+len(waiting))
	seen := make(map[string]bool, len(rows))
	for _, r := range rows {
		seen[r.ID] = true
		views = append(views, r.View())
	}
	for _, v := range waiting {
		if !seen[v.ID] && (after == nil || after.before(v)) {
			views = append(views, v)
		}
	}
	views, next, err := cutPage(views, limit)
	return Page{Orders: views, Next: next, Unread: unread}, err
}

// ListBySale returns up to limit orders of a sale that the database holds, newest first.
func (f *Finder) ListBySale(ctx context.Context, sale string, after *Cursor, limit int) ([]order.View, *Cursor, error) {
	rows, err := readPage(f.db.Read.WithContext(ctx).Where("sale_id = ?", sale), after, limit+1)
	if err != nil {
		return nil, nil, err
	}
	views := make([]order.View, len(rows))
	for i, r := range rows {
		views[i] = r.View()
	}
	return cutPage(views, limit)
}

func readPage(query *gorm.DB, after *Cursor, limit int) ([]order.Row, error) {
	if after != nil {
		query = query.Where("admitted_at < ? OR (admitted_at = ? AND id < ?)", after.AdmittedAt, after.AdmittedAt,
			after.ID)
	}
	var rows []order.Row
	if err := query.Order("admitted_at DESC, id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	return rows, nil
}

func cutPage(views []order.View, limit int) ([]order.View, *Cursor, error) {
	slices.SortFunc(views, func(a, b order.View) int {
		return cmp.Or(b.AdmittedAt.Compare(a.AdmittedAt), strings.Compare(b.ID, a.ID))
	})
	if len(views) <= limit {
		return views, nil, nil
	}
	last := views[limit-1]
	return views[:limit], &Cursor{AdmittedAt: last.AdmittedAt.UnixMilli(), ID: last.ID}, nil
}

// listInLine returns the orders of a user that have not settled yet. It also returns the sales whose line could not be
// read. The error says that none could be.
func (f *Finder) listInLine(ctx context.Context, user string) (views []order.View, unread []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	well, ill := f.salesInLine()
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
			if v := order.ViewTicket(sale, t, claimed); !v.LeftLine() && v.User == user {
				views = append(views, f.withPrice(v))
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
