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

// Entry is what a gateway knows of one sale without asking a store.
type Entry struct {
	Sale  Sale
	Stock Stock
	line  *lineEntry
	known *knownPace
	stops *stops
}

// lineEntry outlives the entries of one sale, which are replaced.
type lineEntry struct {
	view   atomic.Pointer[queue.View]
	taking sync.Mutex
	rate   rate
	flow   flowMeter
	paced  time.Time             // when its pace can be measured again after a stop
	looked atomic.Int64          // when it was looked at last, in vain or not, unix ns; 0: never
	fault  atomic.Pointer[error] // why that was in vain
	busy   atomic.Int64          // when something moved last, unix ns
}

// Touch says that something is about to move in the line, so that the cache
// looks at it often.
func (e *Entry) Touch(now time.Time) { e.line.busy.Store(now.UnixNano()) }

// View is the line at the last look; its zero value says that there is none yet.
func (e *Entry) View() queue.View {
	if v := e.line.view.Load(); v != nil {
		return *v
	}
	return queue.View{}
}

// Fault is why the last look at the line was in vain; nil when it was not, or there was none.
func (e *Entry) Fault() error {
	if err := e.line.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Rate is the drain rate in tickets per second that expected waits go by; always positive.
func (e *Entry) Rate() float64 { return e.line.rate.pace(e.known.perSecond.get()).PerSecond }

// Pace is the rate, and how many tickets were in work at the last look.
func (e *Entry) Pace() Pace {
	p := e.line.rate.pace(e.known.perSecond.get())
	v := e.View()
	p.InWork, p.Stopped = max(v.Claimed-v.Served, 0), e.Stopped()
	return p
}

// Stopped is how much longer operators keep workers from the line, as far as
// anybody knows, in whole seconds; 0: they do not.
func (e *Entry) Stopped() time.Duration { return e.stops.left(e.Sale.ID) }

// Flow is how fast the line moves now.
func (e *Entry) Flow() Flow { return e.line.flow.now() }

// Remaining is how many units can still be ordered.
func (e *Entry) Remaining() int64 {
	if v := e.View(); v.Exists {
		return max(v.Stock, 0)
	}
	return e.Stock.Available
}

// SaleCache is every gateway's copy of the catalogue and of the lines' numbers,
// refreshed in the background: reading it costs the stores nothing.
type SaleCache struct {
	saleStore *SaleStore
	lines     *queue.Lines
	log       *slog.Logger
	now       func() time.Time
	reading   atomic.Pointer[reading]
	read      atomic.Int64 // when the catalogue was read last, unix ns
	offset    atomic.Int64 // Redis' clock minus ours, in ns
	known     knownPace
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

// Now is the time by Redis' clock, the one every sale's window follows,
// however wrong this host's own clock is.
func (b *SaleCache) Now() time.Time { return b.now().Add(time.Duration(b.offset.Load())) }

// Wake makes the sales be read again at once.
func (b *SaleCache) Wake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run refreshes until ctx ends. Sales and lines are read side by side: a store
// that is slow holds up no more than what is its own.
func (b *SaleCache) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { b.keepReading(ctx) })
	loops.Go(func() { b.keepLooking(ctx) })
	loops.Wait()
}

// keepReading reads the catalogue until ctx ends.
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

// Refresh reads the catalogue now.
func (b *SaleCache) Refresh(ctx context.Context) error { return b.RefreshOlderThan(ctx, 0) }

// RefreshOlderThan reads the catalogue unless it has been read within age:
// for callers who have found out that the cache is behind. Those who wait for a
// reading share it.
func (b *SaleCache) RefreshOlderThan(ctx context.Context, age time.Duration) error {
	if b.fresh(age) {
		return nil
	}
	return b.inTurn(ctx, func(ctx context.Context) error {
		if b.fresh(age) {
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

// RefreshSale reads one sale now, for who has changed it: the database reads
// two rows, however many sales there are. ErrNoSale when there is none.
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

// inTurn lets one reading at a time replace the reading, so that none puts back what an earlier one has seen.
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
	e := &Entry{Sale: sale, Stock: stock, line: &lineEntry{}, known: &b.known, stops: &b.stops}
	if known, ok := b.Get(sale.ID); ok {
		e.line = known.line
	}
	return e
}

// newestFirst is the order of SaleStore.List; sales of one millisecond may stand otherwise there, by the database's
// collation.
func newestFirst(x, y *Entry) int {
	return cmp.Or(cmp.Compare(y.Sale.CreatedAt, x.Sale.CreatedAt), cmp.Compare(x.Sale.ID, y.Sale.ID))
}

// fresh reports whether the catalogue was read within age; a clock that was set back tells nothing.
func (b *SaleCache) fresh(age time.Duration) bool {
	old := b.now().Sub(time.Unix(0, b.read.Load()))
	return old >= 0 && old < age
}
