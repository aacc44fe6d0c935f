package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/internal/apart"
	"sluice/queue"
	"sluice/store/redis"
)

const (
	readViews    = 100 * time.Millisecond // how old the cache's numbers of a busy line may be
	readIdle     = time.Second            // and those of a line in which nothing has moved for twice as long
	lookChunk    = 100                    // lines looked at in one round trip
	lookTime     = time.Second            // for one round trip
	lookPatience = 50 * time.Millisecond  // then the next look begins, without the servers that are still being asked
	lookServers  = 16                     // servers of a cluster asked at a time
	// Workers hear of the end of a stop up to a second after this process. Then they have a first batch to do.
	resumeMost = 2 * time.Second
	lookMost   = 50 // and each time: of more busy lines, a number is older
)

// keepLooking looks at the lines until ctx ends.
func (b *SaleCache) keepLooking(ctx context.Context) {
	rounds := apart.New(lookServers, lookPatience)
	defer rounds.Wait()
	views := time.NewTicker(readViews)
	defer views.Stop()
	for {
		b.lookIn(ctx, rounds)
		select {
		case <-views.C:
		case <-ctx.Done():
			return
		}
	}
}

// rateTurn is no server's address.
const rateTurn = "drain rate"

// lookIn reads the numbers of the lines that may hold tickets, those of idle ones less often. Each server has a turn,
// and so has the drain rate that is kept in Redis.
func (b *SaleCache) lookIn(ctx context.Context, rounds *apart.Rounds) {
	now := b.now()
	entries := map[string]*Entry{}
	var due []string
	for _, e := range b.due(now) {
		entries[e.Sale.ID], due = e, append(due, e.Sale.ID)
	}
	on := b.lines.ByServer(ctx, due)
	turns := append(slices.Sorted(maps.Keys(on)), rateTurn)
	rounds.Round(ctx, turns, func(ctx context.Context, server string) error {
		if server == rateTurn {
			b.shared.exchange(ctx, b.lines, now)
			return nil
		}
		var away error
		for some := range slices.Chunk(on[server], lookChunk) {
			away = errors.Join(away, b.lookAt(ctx, entries, some, now))
		}
		if begun, _ := b.away.Note("server "+server, away); begun {
			b.log.Warn("lines not looked at: answering from the last look", "server", server, "error", away)
		}
		return nil
	}, func(turn string, err error) { b.log.Error("a look panicked", "at", turn, "error", err) })
}

// lookAt reads the numbers of some lines in one round trip. The error is of their server.
func (b *SaleCache) lookAt(ctx context.Context, entries map[string]*Entry, sales []string, now time.Time) (away error) {
	call, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	views, failed := b.lines.Views(call, sales)
	if ctx.Err() != nil {
		return nil
	}
	for i, sale := range sales {
		e, err := entries[sale], failed[i]
		if err == nil {
			err = apart.Try(func() error {
				b.observe(e, views[i], now)
				return nil
			})
		}
		e.line.looked.Store(now.UnixNano()) // also in vain: those of which nothing is known come first
		e.line.fault.Store(&err)
		if redis.Unavailable(err) {
			away = err
		} else if begun, _ := b.away.Note("line "+sale, err); begun {
			b.log.Warn("line not looked at: answering from the last look", "sale", sale, "error", err)
		}
	}
	return away
}

// due returns the lines to be looked at now. Of more than lookMost, all of those come first of which nothing is
// known. Then come those that have not been looked at for longest. So what a thousand busy lines cost is bounded.
func (b *SaleCache) due(now time.Time) []*Entry {
	var due []*Entry
	unknown := 0
	for _, e := range b.reading.Load().order {
		if e.due(now, b.Now()) {
			due = append(due, e)
			if e.line.looked.Load() == 0 {
				unknown++
			}
		}
	}
	if len(due) <= lookMost {
		return due
	}
	slices.SortStableFunc(due, func(x, y *Entry) int { return cmp.Compare(x.line.looked.Load(), y.line.looked.Load()) })
	return due[:max(lookMost, unknown)]
}

// due reports whether a line is to be looked at; there is the time in Redis.
func (e *Entry) due(now, there time.Time) bool {
	known := e.View()
	if !known.Exists {
		return known.Now.IsZero() || !e.Sale.Finished(there)
	}
	idle := now.Sub(time.Unix(0, e.line.busy.Load()))
	return idle < 2*readIdle || now.Sub(time.Unix(0, e.line.looked.Load())) >= readIdle
}

// observe learns from a look at a line.
func (b *SaleCache) observe(e *Entry, view queue.View, now time.Time) {
	e.line.taking.Lock() // a server that hung may answer when its line is on another one by now
	defer e.line.taking.Unlock()
	known := e.View()
	if view.Exists {
		b.offset.Store(int64(view.Now.Sub(b.now())))
	} else {
		view.Now = b.Now()
	}
	if view.InFlight() || view.Seq != known.Seq || view.Stock != known.Stock || view.Version != known.Version ||
		view.Exists != known.Exists {
		e.Touch(now)
	}
	if e.Stopped() > 0 {
		e.line.measureFrom = now.Add(resumeMost)
	}
	if now.Before(e.line.measureFrom) {
		known = queue.View{} // a line that nobody works off says nothing about how fast it could be
	}
	if e.line.rate.observe(known, view) {
		b.shared.perSecond.set(e.Rate())
	}
	e.line.flow.observe(view)
	e.line.view.Store(&view)
}

// readyNamed is how many lines an error of Ready names.
const readyNamed = 3

// Ready fails while lines are not compared with the ledger. That is so after a start or a failover of Redis, while
// they are rebuilt, or when Redis lost them. A line that cannot be asked says nothing about the others. Ready fails
// for it only when none can be asked.
func (b *SaleCache) Ready(ctx context.Context) error {
	var wanting []string
	var unasked error
	asked := 0
	now := b.Now()
	for some := range slices.Chunk(b.Active(), lookChunk) {
		views, failed := b.lines.Views(ctx, some)
		for i, sale := range some {
			if failed[i] != nil {
				unasked = failed[i]
				continue
			}
			asked++
			v := views[i]
			e, ok := b.Get(sale)
			lost := ok && !v.Exists && e.Sale.Epoch > 0 && !e.Sale.Finished(now)
			if lost || v.Exists && (v.Rebuilding || !v.Verified) {
				wanting = append(wanting, sale)
			}
		}
	}
	if asked == 0 && unasked != nil {
		return fmt.Errorf("no line can be asked: %w", unasked)
	}
	if len(wanting) > 0 {
		named := strings.Join(wanting[:min(len(wanting), readyNamed)], ", ")
		return errors.New("not yet compared with the ledger: " + fmt.Sprint(len(wanting)) + " lines, such as " + named)
	}
	return nil
}
