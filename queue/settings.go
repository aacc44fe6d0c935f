package queue

import (
	"context"
	"fmt"
	"time"
)

// Settings are what a line has to know of its sale. Version orders them: an
// older one never overwrites a newer.
type Settings struct {
	Epoch    int64 // which loading of the line these belong to
	Version  int64
	State    string // draft, open, paused or closed
	StartsAt time.Time
	EndsAt   time.Time
	Cap      int
	Limit    int   // units one user may hold
	Total    int64 // units of the sale, sold ones included
}

func (s Settings) args() []any {
	return []any{s.Epoch, s.Version, s.State, s.StartsAt.UnixMilli(), s.EndsAt.UnixMilli(), s.Cap, s.Limit, s.Total}
}

// Configure brings newer settings into the line; a changed total moves the
// stock by its difference. Returns ErrNotReady when the line is missing, is of
// another epoch, or is being rebuilt.
func (l *Line) Configure(ctx context.Context, s Settings) error {
	n, err := l.scripts.configure.runInt(ctx, l.rdb, []string{l.keys.meta, l.keys.stock}, append(s.args(), stockChannel, l.sale)...)
	if err == nil && n < 0 {
		return ErrNotReady
	}
	return err
}

// Recap changes the line's cap. Returns ErrNotReady when the line is missing,
// is of another epoch, or is being rebuilt.
func (l *Line) Recap(ctx context.Context, epoch int64, tickets int) error {
	n, err := l.scripts.recap.runInt(ctx, l.rdb, []string{l.keys.meta}, epoch, tickets)
	if err == nil && n < 0 {
		return ErrNotReady
	}
	return err
}

// View is how a line looks at one instant, by Redis' clock.
type View struct {
	Exists    bool
	Run       string // of the Redis that opened the line, see Line.Run
	Epoch     int64
	Gate      bool // being rebuilt
	Version   int64
	State     string
	Cap       int64
	Seq       int64 // tickets ever admitted
	Claimed   int64 // sequence up to which they have been claimed
	Served    int64 // tickets that ended, one way or another
	Stock     int64 // units that can still be reserved
	Waiting   int64
	Suspects  int64
	Leased    int64 // batches
	Retrying  int64
	Dead      int64
	OldestAge time.Duration
	Now       time.Time
}

// InFlight reports whether tickets are anywhere between admission and their end.
func (v View) InFlight() bool { return v.Waiting+v.Suspects+v.Leased+v.Retrying > 0 }

// View reads the line's numbers.
func (l *Line) View(ctx context.Context) (View, error) {
	list, err := l.scripts.view.runList(ctx, l.rdb, l.keys.view())
	if err != nil {
		return View{}, err
	}
	return l.readView(list)
}

// Views reads the numbers of several lines in one round trip, in the order of
// sales.
func (ls *Lines) Views(ctx context.Context, sales []string) ([]View, error) {
	calls := make([]call, len(sales))
	for i, sale := range sales {
		calls[i].keys = ls.ring.of(sale).view()
	}
	views := make([]View, len(sales))
	for i, a := range ls.scripts.view.each(ctx, ls.rdb, calls) {
		list, err := a.list()
		if err == nil {
			views[i], err = ls.Of(sales[i]).readView(list)
		}
		if err != nil {
			return nil, err
		}
	}
	return views, nil
}

func (k keys) view() []string {
	return []string{k.meta, k.stock, k.wait, k.suspect, k.lease, k.retry, k.dead, k.orders}
}

func (l *Line) readView(list []any) (View, error) {
	if len(list) == 0 {
		return View{}, nil
	}
	if len(list) != 17 {
		return View{}, fmt.Errorf("view of %s has %d values, not 17", l.sale, len(list))
	}
	state, _ := list[3].(string)
	run, _ := list[16].(string)
	return View{
		Exists: true, Run: run, Epoch: toInt(list[0]), Gate: toInt(list[1]) == 1, Version: toInt(list[2]), State: state, Cap: toInt(list[4]),
		Seq: toInt(list[5]), Claimed: toInt(list[6]), Served: toInt(list[7]), Stock: toInt(list[8]), Waiting: toInt(list[9]),
		Suspects: toInt(list[10]), Leased: toInt(list[11]), Retrying: toInt(list[12]), Dead: toInt(list[13]),
		OldestAge: time.Duration(toInt(list[14])) * time.Millisecond, Now: time.UnixMilli(toInt(list[15])).UTC(),
	}, nil
}

// Snapshot is everything of a line that the audit compares, at one instant.
type Snapshot struct {
	Exists      bool
	Epoch       int64
	Gate        bool
	Version     int64
	Total       int64
	Stock       int64
	Seq         int64
	Released    int64
	Unleased    int64            // batches without a lease
	EmptyLeases int64            // leases without a batch
	InFlight    map[string]int64 // live tickets: order id → units
	Recordless  []string         // listed ids that have no record
	ListedTwice []string         // ids found in two places at once
}

// Snapshot reads the line for an audit. Its cost grows with the tickets in
// flight; Redis serves nobody else meanwhile (about 1 ms per 1,000).
func (l *Line) Snapshot(ctx context.Context) (Snapshot, error) {
	k := l.keys
	list, err := l.scripts.snapshot.runList(ctx, l.rdb, []string{k.meta, k.stock, k.wait, k.suspect, k.lease, k.leased, k.retry, k.orders})
	if err != nil || len(list) == 0 {
		return Snapshot{}, err
	}
	s := Snapshot{
		Exists: true, Epoch: toInt(list[0]), Gate: toInt(list[1]) == 1, Version: toInt(list[2]), Total: toInt(list[3]), Stock: toInt(list[4]),
		Seq: toInt(list[5]), Released: toInt(list[6]), Unleased: toInt(list[7]), EmptyLeases: toInt(list[8]),
		InFlight: make(map[string]int64, (len(list)-9)/2),
	}
	for i := 9; i+1 < len(list); i += 2 {
		id, _ := list[i].(string)
		units := toInt(list[i+1])
		_, twice := s.InFlight[id]
		switch {
		case units < 0:
			s.Recordless = append(s.Recordless, id)
		case twice:
			s.ListedTwice = append(s.ListedTwice, id)
		default:
			s.InFlight[id] = units
		}
	}
	return s, nil
}

// ReleasedSince returns the orders released since a snapshot, newest first, and the line's epoch; ErrNotReady while the
// line is missing or rebuilt, or when they are more than it remembers. An audit asks after it has read the database:
// units that came back in between would look like a difference.
func (l *Line) ReleasedSince(ctx context.Context, snap Snapshot) (epoch int64, ids []string, err error) {
	pipe := l.rdb.TxPipeline()
	meta := pipe.HMGet(ctx, l.keys.meta, "epoch", "gate", "released")
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

// Verified reports whether admission is allowed on every Redis that holds
// lines. Redis forgets its scripts when it restarts and a promoted replica
// never had them, so the admit script's presence, in both its forms, says:
// somebody has compared the lines with the ledger since this Redis came up.
func (ls *Lines) Verified(ctx context.Context) (bool, error) {
	known, err := ls.rdb.ScriptExists(ctx, ls.scripts.admit.sha, ls.scripts.admit.many.sha).Result()
	if err != nil {
		return false, fmt.Errorf("ask redis for the admit script: %w", err)
	}
	return len(known) == 2 && known[0] && known[1], nil
}

// AllowAdmission loads the scripts that take units or promise anything to a
// shopper, admit last. To be called only after every line has been rebuilt or
// compared with the ledger since Verified said no.
func (ls *Lines) AllowAdmission(ctx context.Context) error {
	admit := ls.scripts.admit
	together := script{name: admit.name, text: admit.many}
	for _, s := range []script{ls.scripts.cancel, ls.scripts.requeue, ls.scripts.honour, ls.scripts.revive, together, admit} {
		if err := ls.rdb.ScriptLoad(ctx, s.source).Err(); err != nil {
			return fmt.Errorf("load the %s script: %w", s.name, err)
		}
	}
	return nil
}
