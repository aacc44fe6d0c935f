// Package lookup finds orders wherever they are: in a line while Redis knows them, else in the database.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
	"sluice/store"
)

// Finder looks orders up. Safe for concurrent use.
type Finder struct {
	db    *store.DB
	lines *queue.Lines
	cache *inventory.SaleCache
}

// NewFinder returns a finder over both stores.
func NewFinder(db *store.DB, lines *queue.Lines, cache *inventory.SaleCache) *Finder {
	return &Finder{db: db, lines: lines, cache: cache}
}

// Many returns the orders of one sale by id, in few round trips. Unknown ids are absent. While Redis is away it
// returns what the database knows together with the error. An absent order may then be in line.
func (f *Finder) Many(ctx context.Context, sale string, ids []string) (map[string]order.View, error) {
	if len(ids) == 0 {
		return map[string]order.View{}, nil
	}
	line := f.InLine(ctx, []queue.Lookup{{Sale: sale, IDs: ids}})[0]
	views, away := line.ByID, line.Err
	if views == nil {
		views = make(map[string]order.View, len(ids))
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

// InLine returns those of the orders that Redis knows, in one round trip. Each sale has an error of its own.
func (f *Finder) InLine(ctx context.Context, asked []queue.Lookup) []Views {
	answers := make([]Views, len(asked))
	for i, found := range f.lines.Lookup(ctx, asked) {
		if answers[i].Err = found.Err; found.Err != nil {
			continue
		}
		answers[i].ByID = make(map[string]order.View, len(found.Tickets))
		for id, t := range found.Tickets {
			answers[i].ByID[id] = f.withPrice(order.ViewTicket(asked[i].Sale, t, found.Claimed))
		}
	}
	return answers
}

// Views are orders of one sale by id, or why they could not be read.
type Views struct {
	ByID map[string]order.View
	Err  error
}

// InLedger returns those of the orders that the database knows.
func (f *Finder) InLedger(ctx context.Context, sale string, ids []string) (map[string]order.View, error) {
	var rows []order.Row
	if err := f.db.Read.WithContext(ctx).Where("id IN ? AND sale_id = ?", ids, sale).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("look up %d orders of %s: %w", len(ids), sale, err)
	}
	views := make(map[string]order.View, len(rows))
	for _, r := range rows {
		views[r.ID] = r.View()
	}
	return views, nil
}

// Readmit takes a lost order back into its line, or reports it as failed when no unit is left. The caller vouches for
// t: a signed receipt says that it was admitted. It returns queue.ErrNotReady when there is no line to take it back.
func (f *Finder) Readmit(ctx context.Context, entry *inventory.Entry, t queue.Ticket) (order.View, error) {
	sale := entry.Sale
	if _, err := f.lines.Of(sale.ID).Readmit(ctx, sale.Epoch, t); err != nil {
		return order.View{}, err
	}
	views, err := f.Many(ctx, sale.ID, []string{t.ID})
	if err != nil {
		return order.View{}, err
	}
	v, ok := views[t.ID]
	if !ok {
		return order.View{}, order.ErrNotFound
	}
	return v, nil
}

// withPrice adds what orders of its sale cost, which a line does not know.
func (f *Finder) withPrice(v order.View) order.View {
	if e, ok := f.cache.Get(v.SaleID); ok {
		v.PriceCents, v.Currency = e.Sale.PriceCents, e.Sale.Currency
	}
	return v
}

// ByID returns one order of any user, as the database has it. When the database has none it returns what a line has.
func (f *Finder) ByID(ctx context.Context, id string) (order.View, error) {
	v, err := f.stored(ctx, id)
	if errors.Is(err, order.ErrNotFound) {
		v, err = f.inAnyLine(ctx, id)
	}
	if errors.Is(err, order.ErrNotFound) {
		v, err = f.stored(ctx, id) // it may have left its line in between
	}
	if err != nil {
		return order.View{}, fmt.Errorf("look up order %s: %w", id, err)
	}
	return v, nil
}

func (f *Finder) stored(ctx context.Context, id string) (order.View, error) {
	var row order.Row
	err := f.db.Read.WithContext(ctx).Take(&row, "id = ?", id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return order.View{}, order.ErrNotFound
	}
	return row.View(), err
}

// inAnyLine looks through the lines, last through those that could not be looked at the last time. It returns
// order.ErrNotFound when all have been asked in vain, and else why one could not be.
func (f *Finder) inAnyLine(ctx context.Context, id string) (order.View, error) {
	well, ill := f.salesInLine()
	missed := order.ErrNotFound
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
	return order.View{}, missed
}

// salesInLine returns the sales whose line may hold tickets. First come those whose line answered at the cache's last
// look, then the others.
func (f *Finder) salesInLine() (well, ill []string) {
	for _, sale := range f.cache.Active() {
		if e, ok := f.cache.Get(sale); ok && e.Fault() != nil {
			ill = append(ill, sale)
		} else {
			well = append(well, sale)
		}
	}
	return well, ill
}
