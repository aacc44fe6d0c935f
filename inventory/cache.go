package inventory

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/internal/apart"
	"sluice/queue"
)

const (
	readSales = 500 * time.Millisecond // how old the cache's sales may be
	readSale  = time.Millisecond       // and how old for each of them, where they are more than five hundred
	readLong  = 5 * time.Second        // but never older
)

// SaleCache is every gateway's copy of the sales and of the lines' numbers. It is refreshed in the background:
// reading it costs the stores nothing.
type SaleCache struct {
	saleStore *SaleStore
	lines     *queue.Lines
	log       *slog.Logger
	now       func() time.Time
	reading   atomic.Pointer[reading]
	read      atomic.Int64 // when the sales were read last, unix ns
	offset    atomic.Int64 // Redis' clock minus ours, in ns
	shared    sharedRate
	stops     stops
	away      apart.Troubles // lines, and servers, that cannot be looked at
	wake      chan struct{}
	turn      chan struct{} // holds one value: one refresh at a time
}

// reading is the sales as they were read once. It is replaced as a whole.
type reading struct {
	entries map[string]*Entry
	order   []*Entry // newest sale first
}

// NewSaleCache returns an empty cache; Run or Refresh fills it.
func NewSaleCache(saleStore *SaleStore, lines *queue.Lines, log *slog.Logger, now func() time.Time) *SaleCache {
	b := &SaleCache{saleStore: saleStore, lines: lines, log: log, now: now, wake: make(chan struct{}, 1),
		turn: make(chan struct{}, 1)}
	b.reading.Store(&reading{entries: map[string]*Entry{}})
	b.stops.now = b.Now
	return b
}

// Get returns the entry of a sale.
func (b *SaleCache) Get(id string) (*Entry, bool) {
	e, ok := b.reading.Load().entries[id]
	return e, ok
}

// List returns all entries, newest sale first.
func (b *SaleCache) List() []*Entry {
	return slices.Clone(b.reading.Load().order)
}

// Active returns the ids of the sales whose line may hold tickets.
func (b *SaleCache) Active() []string {
	var ids []string
	for _, e := range b.List() {
		if e.View().Exists || !e.Sale.Finished(b.Now()) {
			ids = append(ids, e.Sale.ID)
		}
	}
	return ids
}

// Now returns the time by Redis' clock. Every sale's window follows it, however wrong this host's own clock is.
func (b *SaleCache) Now() time.Time { return b.now().Add(time.Duration(b.offset.Load())) }

// Wake makes the sales be read again at once.
func (b *SaleCache) Wake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run refreshes until ctx ends. It reads sales and lines side by side: a store that is slow holds up only its own.
func (b *SaleCache) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { b.keepReading(ctx) })
	loops.Go(func() { b.keepLooking(ctx) })
	loops.Wait()
}

// keepReading reads the sales until ctx ends.
func (b *SaleCache) keepReading(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-b.wake:
		case <-ctx.Done():
			return
		}
		began := b.now()
		if err := b.Refresh(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("sales not refreshed: answering from the last reading", "error", err)
		}
		age := min(max(readSales, time.Duration(len(b.reading.Load().order))*readSale), readLong)
		timer.Reset(max(age-b.now().Sub(began), readViews))
	}
}

// Refresh reads the sales now.
func (b *SaleCache) Refresh(ctx context.Context) error { return b.RefreshOlderThan(ctx, 0) }

// RefreshOlderThan reads the sales unless they have been read within age. It is for callers who have found out that
// the cache is behind. Those who wait for a reading share it.
func (b *SaleCache) RefreshOlderThan(ctx context.Context, age time.Duration) error {
	if b.readWithin(age) {
		return nil
	}
	return b.inTurn(ctx, func(ctx context.Context) error {
		if b.readWithin(age) {
			return nil
		}
		began := b.now()
		sales, stock, err := b.saleStore.List(ctx)
		if err != nil {
			return err
		}
		b.read.Store(began.UnixNano())
		entries := make(map[string]*Entry, len(sales))
		order := make([]*Entry, len(sales))
		for i, s := range sales {
			e := b.entry(s, stock[s.ID])
			entries[s.ID], order[i] = e, e
		}
		b.reading.Store(&reading{entries: entries, order: order})
		return nil
	})
}

// RefreshSale reads one sale now, for who has changed it: the database reads two rows, however many sales there are. It
// returns ErrNoSale when there is none.
func (b *SaleCache) RefreshSale(ctx context.Context, id string) error {
	return b.inTurn(ctx, func(ctx context.Context) error {
		sale, stock, err := b.saleStore.Get(ctx, id)
		if err != nil {
			return err
		}
		e, old := b.entry(sale, stock), b.reading.Load()
		entries, order := maps.Clone(old.entries), slices.Clone(old.order)
		entries[id] = e
		if at := slices.IndexFunc(order, func(o *Entry) bool { return o.Sale.ID == id }); at >= 0 {
			order[at] = e
		} else {
			at, _ := slices.BinarySearchFunc(order, e, newestFirst)
			order = slices.Insert(order, at, e)
		}
		b.reading.Store(&reading{entries: entries, order: order})
		return nil
	})
}

// inTurn lets one reading at a time replace the reading: none puts back what an earlier one has seen.
func (b *SaleCache) inTurn(ctx context.Context, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("read the sales: another reading hangs: %w", ctx.Err())
	}
	defer func() { <-b.turn }()
	return read(ctx)
}

// entry makes an entry, which keeps what is known of the line.
func (b *SaleCache) entry(sale Sale, stock Stock) *Entry {
	e := &Entry{Sale: sale, Stock: stock, line: &lineEntry{}, shared: &b.shared, stops: &b.stops}
	if known, ok := b.Get(sale.ID); ok {
		e.line = known.line
	}
	return e
}

// newestFirst compares in the order of SaleStore.List. Sales of one millisecond may stand otherwise there, by the
// database's collation.
func newestFirst(x, y *Entry) int {
	return cmp.Or(cmp.Compare(y.Sale.CreatedAt, x.Sale.CreatedAt), cmp.Compare(x.Sale.ID, y.Sale.ID))
}

// readWithin reports whether the sales were read within age; a clock that was set back tells nothing.
func (b *SaleCache) readWithin(age time.Duration) bool {
	old := b.now().Sub(time.Unix(0, b.read.Load()))
	return old >= 0 && old < age
}

// Recall asks Redis for its clock. So Now follows it from the first order on, and not only from the first look at a
// line. It also asks for the drain rate that was measured last. Without it, caps that follow the rate would start
// anew with each process.
func (b *SaleCache) Recall(ctx context.Context) error {
	now, err := b.lines.Time(ctx)
	if err == nil {
		b.offset.Store(int64(now.Sub(b.now())))
		b.shared.exchange(ctx, b.lines, b.now())
	}
	return err
}
