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
	cache *inventory.SaleCache
}

// NewFinder returns a finder over both stores.
func NewFinder(db *store.DB, lines *queue.Lines, cache *inventory.SaleCache) *Finder {
	return &Finder{db: db, lines: lines, cache: cache}
}

// Many returns the orders of one sale by id, in few round trips. Unknown ids
// are absent. While Redis is away it returns what the database knows together
// with the error: an absent order may then be in line.
func (f *Finder) Many(ctx context.Context, sale string, ids []string) (map[string]View, error) {
	if len(ids) == 0 {
		return map[string]View{}, nil
	}
	line := f.InLine(ctx, []queue.Lookup{{Sale: sale, IDs: ids}})[0]
	views, away := line.ByID, line.Err
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

// InLine returns those of the orders that Redis knows, by sale and in one round
// trip; each sale with an error of its own.
func (f *Finder) InLine(ctx context.Context, asked []queue.Lookup) []Views {
	answers := make([]Views, len(asked))
	for i, found := range f.lines.Lookup(ctx, asked) {
		if answers[i].Err = found.Err; found.Err != nil {
			continue
		}
		answers[i].ByID = make(map[string]View, len(found.Tickets))
		for id, t := range found.Tickets {
			answers[i].ByID[id] = f.priced(viewOfTicket(asked[i].Sale, t, found.Claimed))
		}
	}
	return answers
}

// Views are orders of one sale by id, or why they could not be read.
type Views struct {
	ByID map[string]View
	Err  error
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

// Readmit takes a lost order back into its line, or reports it as failed when
// no unit is left. The caller vouches for t: a signed receipt says that it was
// admitted. It returns queue.ErrNotReady when there is no line to take it back.
func (f *Finder) Readmit(ctx context.Context, entry *inventory.Entry, t queue.Ticket) (View, error) {
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
	if e, ok := f.cache.Get(v.SaleID); ok {
		v.PriceCents, v.Currency = e.Sale.PriceCents, e.Sale.Currency
	}
	return v
}

// ByID returns one order of any user, as the database has it, or as its line
// has it when the database does not.
func (f *Finder) ByID(ctx context.Context, id string) (View, error) {
	v, err := f.stored(ctx, id)
	if errors.Is(err, ErrNotFound) {
		v, err = f.inAnyLine(ctx, id)
	}
	if errors.Is(err, ErrNotFound) {
		v, err = f.stored(ctx, id) // it may have left its line in between
	}
	if err != nil {
		return View{}, fmt.Errorf("look up order %s: %w", id, err)
	}
	return v, nil
}

func (f *Finder) stored(ctx context.Context, id string) (View, error) {
	var row Row
	err := f.db.Read.WithContext(ctx).Take(&row, "id = ?", id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return View{}, ErrNotFound
	}
	return viewOfRow(row), err
}

// inAnyLine looks through the lines, last through those that could not be
// looked at the last time. It returns ErrNotFound when all have been asked in
// vain, and else why one could not be.
func (f *Finder) inAnyLine(ctx context.Context, id string) (View, error) {
	well, ill := f.asked()
	missed := ErrNotFound
	for _, sale := range append(well, ill...) {
		views := f.InLine(ctx, []queue.Lookup{{Sale: sale, IDs: []string{id}}})[0]
		if v, ok := views.ByID[id]; ok {
			return v, nil
		}
		if views.Err != nil {
			missed = fmt.Errorf("the line of %s: %w", sale, views.Err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return View{}, missed
}

// asked are the sales whose line may hold tickets: those whose line answered
// at the cache's last look, and the others.
func (f *Finder) asked() (well, ill []string) {
	for _, sale := range f.cache.Active() {
		if e, ok := f.cache.Get(sale); ok && e.Fault() != nil {
			ill = append(ill, sale)
		} else {
			well = append(well, sale)
		}
	}
	return well, ill
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
