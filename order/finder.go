package order

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

// Finder looks orders up: in the line while Redis knows them, else in the
// database. Safe for concurrent use.
type Finder struct {
	db    *store.DB
	lines *queue.Lines
	book  *inventory.Book
}

// NewFinder returns a finder over both stores.
func NewFinder(db *store.DB, lines *queue.Lines, book *inventory.Book) *Finder {
	return &Finder{db: db, lines: lines, book: book}
}

// Many returns the orders of one sale by id, in few round trips. Unknown ids
// are absent. While Redis is away it returns what the database knows together
// with the error: an absent order may then be in line.
func (f *Finder) Many(ctx context.Context, sale string, ids []string) (map[string]View, error) {
	views, away := f.InLine(ctx, sale, ids)
	if views == nil {
		views = make(map[string]View, len(ids))
	}
	var unknown []string
	for _, id := range ids {
		if _, ok := views[id]; !ok {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return views, away
	}
	rows, err := f.InLedger(ctx, sale, unknown)
	maps.Copy(views, rows)
	return views, errors.Join(away, err)
}

// InLine returns those of the orders that Redis knows, in one round trip.
func (f *Finder) InLine(ctx context.Context, sale string, ids []string) (map[string]View, error) {
	tickets, claimed, err := f.lines.Of(sale).Lookup(ctx, ids)
	if err != nil {
		return nil, err
	}
	views := make(map[string]View, len(tickets))
	for id, t := range tickets {
		views[id] = f.priced(viewOfTicket(sale, t, claimed))
	}
	return views, nil
}

// InLedger returns those of the orders that the database knows.
func (f *Finder) InLedger(ctx context.Context, sale string, ids []string) (map[string]View, error) {
	var rows []Row
	if err := f.db.Read.WithContext(ctx).Where("id IN ? AND sale_id = ?", ids, sale).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("look up %d orders of %s: %w", len(ids), sale, err)
	}
	views := make(map[string]View, len(rows))
	for _, r := range rows {
		views[r.ID] = viewOfRow(r)
	}
	return views, nil
}

// Honour takes a lost order back into its line, or reports it as failed when
// no unit is left. The caller vouches for t: a signed receipt says that it was
// admitted. It returns queue.ErrNotReady when there is no line to take it back.
func (f *Finder) Honour(ctx context.Context, entry *inventory.Entry, t queue.Ticket) (View, error) {
	sale := entry.Sale
	if _, err := f.lines.Of(sale.ID).Honour(ctx, sale.Epoch, t); err != nil {
		return View{}, err
	}
	views, err := f.Many(ctx, sale.ID, []string{t.ID})
	if err != nil {
		return View{}, err
	}
	v, ok := views[t.ID]
	if !ok {
		return View{}, ErrNotFound
	}
	return v, nil
}

func (f *Finder) priced(v View) View {
	if e, ok := f.book.Get(v.SaleID); ok {
		v.PriceCents, v.Currency = e.Sale.PriceCents, e.Sale.Currency
	}
	return v
}

// ByID returns one order of any user, as the database has it, or as its line
// has it when the database does not.
func (f *Finder) ByID(ctx context.Context, id string) (View, error) {
	var row Row
	err := f.db.Read.WithContext(ctx).Take(&row, "id = ?", id).Error
	if err == nil {
		return viewOfRow(row), nil
	}
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return View{}, fmt.Errorf("look up order %s: %w", id, err)
	}
	for _, sale := range f.book.Active() {
		views, err := f.Many(ctx, sale, []string{id})
		if err != nil {
			return View{}, err
		}
		if v, ok := views[id]; ok {
			return v, nil
		}
	}
	return View{}, fmt.Errorf("%s: %w", id, ErrNotFound)
}

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
	return Cursor{AdmittedAt: at, ID: id}, ok && err == nil && at >= 0 && id != "" && len(id) <= 36 && strings.IndexFunc(id, unprintable) < 0
}

// unprintable finds what no order id holds and some databases refuse to compare.
func unprintable(r rune) bool { return r <= ' ' || r >= 0x7f }

func (c Cursor) before(v View) bool {
	return cmp.Or(cmp.Compare(v.AdmittedAt.UnixMilli(), c.AdmittedAt), strings.Compare(v.ID, c.ID)) < 0
}

// ListByUser returns up to limit of a user's orders, newest first, those still
// in line included; after is nil for the first page. The second result is the
// cursor of the next page, nil on the last.
func (f *Finder) ListByUser(ctx context.Context, user string, after *Cursor, limit int) ([]View, *Cursor, error) {
	// The line first: an order that leaves it in between is in the database by then.
	waiting, err := f.inLine(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	rows, err := page(f.db.Read.WithContext(ctx).Where("user_id = ?", user), after, limit+1)
	if err != nil {
		return nil, nil, err
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
	return cut(views, limit)
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
		query = query.Where("admitted_at < ? OR (admitted_at = ? AND id < ?)", after.AdmittedAt, after.AdmittedAt, after.ID)
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

// inLine returns the orders of a user that have not settled yet.
func (f *Finder) inLine(ctx context.Context, user string) ([]View, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	held, err := f.lines.HeldBy(ctx, f.book.Active(), user)
	if err != nil {
		return nil, err
	}
	var views []View
	for sale, ids := range held {
		tickets, claimed, err := f.lines.Of(sale).Lookup(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, t := range tickets {
			if v := viewOfTicket(sale, t, claimed); !v.Settled() && v.User == user {
				views = append(views, f.priced(v))
			}
		}
	}
	return views, nil
}
