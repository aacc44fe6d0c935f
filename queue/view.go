package queue

import (
	"context"
	"fmt"
	"time"

	"sluice/internal/luascript"
)

// View is how a line looks at one instant, by Redis' clock.
type View struct {
	Exists     bool
	Epoch      int64
	Rebuilding bool // being rebuilt
	// compared with the ledger on this very server since it started or was promoted; not older than what was seen
	Verified bool
	Server   string // the Redis that holds it, by a name that is new with each start and promotion
	Ledger   int64  // newest change of the ledger that the line knows of
	Version  int64
	State    string
	Cap      int64
	Seq      int64 // tickets ever admitted
	Claimed  int64 // sequence up to which they have been claimed
	Served   int64 // tickets that ended, one way or another
	Stock    int64 // units that can still be reserved
	Waiting  int64
	Isolated int64
	Leased   int64 // batches
	Retrying int64
	Dead     int64
	// tickets that the cap bounds: waiting, with workers or retrying, less those that are orders, or
	// have ended, already
	Bounded   int64
	Forgotten int64 // finished orders whose records were dropped: the database alone knows them
	OldestAge time.Duration
	Now       time.Time
}

// InFlight reports whether tickets are anywhere between admission and their end.
func (v View) InFlight() bool { return v.Waiting+v.Isolated+v.Leased+v.Retrying > 0 }

// View reads the line's numbers.
func (l *Line) View(ctx context.Context) (View, error) {
	seen := l.keys.seen.newestRevision()
	list, err := l.scripts.view.RunList(ctx, l.rdb, l.keys.view())
	if err != nil {
		return View{}, err
	}
	return l.readView(list, seen)
}

// Views reads the numbers of several lines in one round trip, in the order of sales. Each has an
// error of its own: one that cannot be read says nothing about the others.
func (ls *Lines) Views(ctx context.Context, sales []string) ([]View, []error) {
	calls, seen := make([]luascript.Call, len(sales)), make([]int64, len(sales))
	for i, sale := range sales {
		k := ls.table.of(sale)
		calls[i].Keys, seen[i] = k.view(), k.seen.newestRevision()
	}
	views, failed := make([]View, len(sales)), make([]error, len(sales))
	for i, a := range ls.scripts.view.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		if err == nil {
			views[i], err = ls.Of(sales[i]).readView(list, seen[i])
		}
		failed[i] = err
	}
	return views, failed
}

func (k keys) view() []string {
	return []string{k.meta, k.stock, k.wait, k.isolated, k.lease, k.retry, k.dead, k.orders}
}

// readView reads the reply to a view; seen is the newest revision that was known when it was asked for.
func (l *Line) readView(list []any, seen int64) (View, error) {
	if len(list) == 0 {
		return View{}, nil
	}
	if len(list) != 22 {
		return View{}, fmt.Errorf("view of %s has %d values, not 22", l.sale, len(list))
	}
	state, _ := list[3].(string)
	server, _ := list[17].(string)
	revision := toInt(list[18])
	l.keys.seen.note(revision, toInt(list[5]))
	return View{
		Exists: true, Server: server, Verified: list[16] == server && revision >= seen, Ledger: toInt(list[19]),
		Epoch: toInt(list[0]), Rebuilding: toInt(list[1]) == 1, Version: toInt(list[2]), State: state,
		Cap:     toInt(list[4]),
		Bounded: toInt(list[20]), Forgotten: toInt(list[21]), Seq: toInt(list[5]), Claimed: toInt(list[6]),
		Served: toInt(list[7]), Stock: toInt(list[8]), Waiting: toInt(list[9]),
		Isolated: toInt(list[10]), Leased: toInt(list[11]), Retrying: toInt(list[12]), Dead: toInt(list[13]),
		OldestAge: time.Duration(toInt(list[14])) * time.Millisecond, Now: time.UnixMilli(toInt(list[15])).UTC(),
	}, nil
}

// Snapshot is everything of a line that the audit compares, at one instant.
type Snapshot struct {
	Exists      bool
	Epoch       int64
	Rebuilding  bool
	Version     int64
	Total       int64
	Stock       int64
	Seq         int64
	Released    int64
	Base        int64            // sequence when the line was loaded
	Marks       int64            // sequences drawn since that are no tickets
	Bounded     int64            // tickets that the cap bounds
	Unleased    int64            // batches without a lease
	EmptyLeases int64            // leases without a batch
	InFlight    map[string]int64 // live tickets: order id → units
	Seqs        map[string]int64 // all listed tickets, those that ended in the line included: order id → sequence
	Recordless  []string         // listed ids that have no readable record
	ListedTwice []string         // ids found in two places at once
}

// Snapshot reads the line for an audit. Its cost grows with the tickets in
// flight; Redis serves nobody else meanwhile (about 1 ms per 1,000).
func (l *Line) Snapshot(ctx context.Context) (Snapshot, error) {
	k := l.keys
	list, err := l.scripts.snapshot.RunList(ctx, l.rdb, []string{k.meta, k.stock, k.wait, k.isolated, k.lease, k.leased,
		k.retry, k.orders})
	if err != nil || len(list) == 0 {
		return Snapshot{}, err
	}
	s := Snapshot{
		Exists: true, Epoch: toInt(list[0]), Rebuilding: toInt(list[1]) == 1, Version: toInt(list[2]),
		Total: toInt(list[3]), Stock: toInt(list[4]),
		Seq: toInt(list[5]), Released: toInt(list[6]), Unleased: toInt(list[7]), EmptyLeases: toInt(list[8]),
		Base: toInt(list[9]), Marks: toInt(list[10]), Bounded: toInt(list[11]),
		InFlight: make(map[string]int64, (len(list)-12)/3), Seqs: make(map[string]int64, (len(list)-12)/3),
	}
	for i := 12; i+2 < len(list); i += 3 {
		id, _ := list[i].(string)
		units := toInt(list[i+1])
		_, twice := s.Seqs[id]
		s.Seqs[id] = toInt(list[i+2])
		switch {
		case units < 0:
			s.Recordless = append(s.Recordless, id)
		case twice:
			s.ListedTwice = append(s.ListedTwice, id)
		case units > 0:
			s.InFlight[id] = units
		}
	}
	return s, nil
}

// ReleasedSince returns the orders released since a snapshot, newest first, and the line's epoch. It returns
// ErrNotReady while the line is missing or rebuilt, or when they are more than it remembers. An audit asks after it
// has read the database: units that came back in between would look like a difference.
func (l *Line) ReleasedSince(ctx context.Context, snap Snapshot) (epoch int64, ids []string, err error) {
	pipe := l.rdb.TxPipeline()
	meta := pipe.HMGet(ctx, l.keys.meta, metaEpoch, metaGate, metaReleased)
	recent := pipe.LRange(ctx, l.keys.released, 0, keepReleased-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, nil, fmt.Errorf("read the releases of %s: %w", l.sale, err)
	}
	values := meta.Val()
	n := toInt(values[2]) - snap.Released
	if values[0] == nil || values[1] != nil || n < 0 || n > int64(len(recent.Val())) {
		return 0, nil, ErrNotReady
	}
	return toInt(values[0]), recent.Val()[:n], nil
}
