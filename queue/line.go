package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/internal/luascript"

	goredis "github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/store/redis"
)

// Bounds of what a line keeps of finished orders. The database keeps them all.
const (
	keepDone = 10_000 // records of finished orders still answered from Redis
	keepDead = 10_000 // dead letters kept for an operator
	// released orders an audit can follow while it looks at the two stores
	keepReleased = 10_000
)

// Lines gives access to the line of every sale. Safe for concurrent use.
type Lines struct {
	names
	rdb        goredis.UniversalClient
	scripts    scripts
	table      *keyTable
	durability *redis.Durability // nil: whatever Redis keeps is enough

	instance     string // in whose name batches are claimed; empty: in nobody's
	number       int64  // of the instance, for a ticket's record; 0: none
	instanceText string // the same as a record has it
	cancels      int    // orders of a sale that one user may cancel; 0: no bound
}

// NewLines returns the lines kept in rdb under a prefix, redis.prefix.
func NewLines(rdb goredis.UniversalClient, prefix string) *Lines {
	return &Lines{names: namesOf(prefix), rdb: rdb, scripts: loadScripts(), table: &keyTable{prefix: prefix}}
}

// BoundCancels refuses further orders to users who have cancelled so many of a
// sale; 0: nobody is refused. Call it before the first admission.
func (ls *Lines) BoundCancels(most int) { ls.cancels = most }

// Of returns the line of a sale, whether or not it exists yet. The caller has
// validated the id: it becomes part of key names.
func (ls *Lines) Of(sale string) *Line { return &Line{Lines: ls, sale: sale, keys: ls.table.of(sale)} }

// ByServer groups sales by the server that holds their line, as the client
// knows it: in one group unless Redis is a cluster. What is asked of one server
// waits for no other.
func (ls *Lines) ByServer(ctx context.Context, sales []string) map[string][]string {
	return apart.ByServer(ctx, ls.rdb, sales, func(sale string) string { return ls.table.of(sale).meta })
}

// Server returns the server that holds the line of a sale. It never waits.
func (ls *Lines) Server(sale string) string { return apart.Known(ls.rdb, ls.table.of(sale).meta) }

// Line is the bounded line of one sale. Every method is one atomic step in
// Redis, or says otherwise. Safe for concurrent use.
type Line struct {
	*Lines
	sale string
	keys *keys
}

// Sale returns the id of the sale this line belongs to.
func (l *Line) Sale() string { return l.sale }

// Batch is what one claim got: tickets that belong to this caller until the
// lease runs out.
type Batch struct {
	ID       string
	Sale     string
	Epoch    int64
	Suspects bool  // they failed before, or their worker died
	Solo     bool  // one suspect, to be run alone
	Left     int64 // tickets that still wait in the line
	Ledger   int64 // newest change of the ledger that the line knew of: what this batch takes must come later
	Shared   bool  // every ticket fails alike just now: what happens to these counts against none of them
	Tickets  []Ticket
	Poisoned []Poison // listed ids that are not tickets
}

// Size counts the entries of a batch, unreadable ones included.
func (b Batch) Size() int { return len(b.Tickets) + len(b.Poisoned) }

// Poison is an entry of the line that cannot be read as a ticket.
type Poison struct {
	ID  string
	Seq int64 // its sequence, as its neighbours tell; 0: it had none
	Err error
}

// Portion says how many of the waiting tickets a claim takes: one part in
// Share of them, but Least at least and Most at most. Suspects come first: one
// alone, or, while more than two groups of so many wait, a group of such as
// have failed once at most; 0 leaves them where they are.
type Portion struct{ Most, Least, Share, Suspects int }

// Claim moves up to n of the oldest tickets into a batch of their own and
// leases it under id, which must never have been used. An empty batch means
// there was nothing to claim. n is at most MaxBatch.
func (l *Line) Claim(ctx context.Context, id string, n int, lease time.Duration) (Batch, error) {
	return l.ClaimPortion(ctx, id, Portion{Most: n, Least: n, Share: 1, Suspects: 1}, lease)
}

// ClaimPortion is Claim for a portion of what waits.
func (l *Line) ClaimPortion(ctx context.Context, id string, p Portion, lease time.Duration) (Batch, error) {
	claim := l.claimCall(id, p, lease)
	list, err := l.scripts.claim.RunList(ctx, l.rdb, claim.Keys, claim.Args...)
	if err != nil {
		return Batch{}, err
	}
	return l.readClaim(ctx, id, list)
}

func (l *Line) claimCall(id string, p Portion, lease time.Duration) luascript.Call {
	k := l.keys
	return luascript.Call{Keys: []string{k.meta, k.wait, k.suspect, k.lease, k.leased, k.orders, k.attempts, k.recent},
		Args: []any{lease.Milliseconds(), l.batchName(id), min(p.Most, MaxBatch), p.Least, p.Share, p.Suspects, k.seen.newest()}}
}

// readClaim reads the reply to a claim under id.
func (l *Line) readClaim(ctx context.Context, id string, list []any) (Batch, error) {
	if len(list) == 0 {
		return Batch{}, nil
	}
	if len(list) != 8 {
		return Batch{}, fmt.Errorf("claim of %s has %d values, not 8", l.sale, len(list))
	}
	l.keys.seen.note(toInt(list[7]), 0)
	listed, _ := list[4].(string)
	joined, _ := list[5].(string)
	ids := strings.Split(listed, ",")
	records, err := l.recordsOf(ctx, ids, joined)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{ID: l.batchName(id), Sale: l.sale, Epoch: toInt(list[0]), Suspects: toInt(list[1]) == 1, Solo: toInt(list[1]) == 1 && len(ids) == 1, Left: toInt(list[3]), Ledger: toInt(list[6]),
		Tickets: make([]Ticket, 0, len(ids))}
	for i, order := range ids {
		t, err := ParseTicket(order, records[i])
		if err != nil {
			b.Poisoned = append(b.Poisoned, Poison{ID: order, Seq: after(b.Tickets), Err: err})
			continue
		}
		t.Attempts = int(toInt(list[2]))
		b.Tickets = append(b.Tickets, t)
	}
	return b, nil
}

// after is the sequence behind the last of some tickets, 0 when there are none. In the line a ticket stands behind the one
// that was admitted before it.
func after(tickets []Ticket) int64 {
	if len(tickets) == 0 {
		return 0
	}
	return tickets[len(tickets)-1].Seq + 1
}

// recordsOf cuts the records of a claim apart. One that holds a line feed is
// no record; which it is shows when they are read again, one by one.
func (l *Line) recordsOf(ctx context.Context, ids []string, joined string) ([]string, error) {
	records := strings.Split(joined, "\n")
	if len(records) == len(ids) {
		return records, nil
	}
	values, err := l.rdb.HMGet(ctx, l.keys.orders, ids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %d claimed records of %s: %w", len(ids), l.sale, err)
	}
	records = make([]string, len(ids))
	for i, v := range values {
		records[i], _ = v.(string)
	}
	return records, nil
}

// Op says how one ticket of a batch ends.
type Op byte

// The ends of a ticket in a batch.
const (
	OpConfirm Op = 'c' // the order exists in the database
	OpPaid    Op = 'p' // it exists and is paid
	OpFail    Op = 'f' // it failed for good: its units and its user's slot return
	OpDead    Op = 'x' // as OpFail, and it is kept for an operator
	OpClose   Op = 'k' // a cancelled ticket that is now recorded
	OpEnded   Op = 'e' // it had ended before, as State says, and Redis forgot: its units and its user's slot return
	OpRetry   Op = 'r' // try again alone after Delay; counts an attempt
	OpBack    Op = 'b' // back to where it came from; counts nothing
)

// Valid reports whether o is one of the ends.
func (o Op) Valid() bool { return strings.IndexByte("cpfxkerb", byte(o)) >= 0 }

// Outcome is the end of one ticket of a batch.
type Outcome struct {
	ID     string
	Op     Op
	Reason string        // OpFail, OpDead; with OpRetry for the order's history only
	Code   string        // OpRetry: what went wrong, the same for all to whom the same happened; empty: not known
	State  State         // OpEnded
	Delay  time.Duration // OpRetry; at most a minute
	Join   bool          // OpBack: into the line, also if it came alone
	Pay    time.Time     // OpConfirm: when it must be paid, zero means never; OpPaid: when it was
	At     time.Time     // OpConfirm, OpPaid (when it was confirmed), OpFail, OpEnded: by the database; zero means now
	Ledger int64         // the change of the ledger that took its units; 0: none did
	Again  bool          // its order has a row under an earlier sequence: the line had forgotten it when it was asked for again
	Record string        // of a ticket that could not be read: what is written in its place first; empty: it stands
}

// Settle ends a batch. It returns ErrFenced, and has changed nothing, when the
// lease had gone; the tickets are then somebody else's.
func (l *Line) Settle(ctx context.Context, b Batch, outcomes []Outcome) error {
	settle := l.settleCall(b, outcomes)
	list, err := l.scripts.settle.RunList(ctx, l.rdb, settle.Keys, settle.Args...)
	return l.settled(list, err)
}

// settled reads the reply of lua/settle.lua.
func (l *Line) settled(list []any, err error) error {
	n, err := l.changed(l.scripts.settle, list, err)
	if err == nil && n == 0 {
		return ErrFenced
	}
	return err
}

func (l *Line) settleCall(b Batch, outcomes []Outcome) luascript.Call {
	args := make([]any, 0, 11+len(outcomes))
	args = append(args, b.ID, keepDone, keepDead, l.statusChannel, l.sale, l.stockChannel, newestLedger(outcomes))
	for i := range outcomes {
		if o := &outcomes[i]; o.Record != "" {
			args = append(args, "n", o.Record, "", 1, o.ID)
		}
	}
	for rest := outcomes; len(rest) > 0; {
		n := alike(rest)
		args = append(args, string(rest[0].Op), rest[0].value(b.Suspects || b.Solo), msOrEmpty(rest[0].At), n)
		for _, o := range rest[:n] {
			args = append(args, o.ID)
		}
		rest = rest[n:]
	}
	if ids := again(outcomes); len(ids) > 0 {
		args = append(append(args, "m", "", "", len(ids)), ids...)
	}
	k := l.keys
	return luascript.Call{Keys: []string{k.meta, k.stock, k.lease, k.leased, k.orders, k.holders, k.wait, k.suspect, k.retry, k.attempts, k.dead, k.done, k.due}, Args: args}
}

// newestLedger is the newest change of the ledger among outcomes.
func newestLedger(outcomes []Outcome) (newest int64) {
	for i := range outcomes {
		newest = max(newest, outcomes[i].Ledger)
	}
	return newest
}

// again are the ids of the outcomes whose orders have an earlier sequence.
func again(outcomes []Outcome) (ids []any) {
	for i := range outcomes {
		if outcomes[i].Again && outcomes[i].Op != OpBack && outcomes[i].Op != OpRetry {
			ids = append(ids, outcomes[i].ID)
		}
	}
	return ids
}

// alike counts the outcomes, from the first, that differ by nothing but their order.
func alike(outcomes []Outcome) int {
	first := outcomes[0]
	for n := range outcomes {
		first.ID, first.Ledger, first.Again, first.Record = outcomes[n].ID, outcomes[n].Ledger, outcomes[n].Again, outcomes[n].Record
		if outcomes[n] != first {
			return n
		}
	}
	return len(outcomes)
}

// value is what lua/settle.lua calls so.
func (o Outcome) value(suspects bool) any {
	switch {
	case o.Op == OpConfirm || o.Op == OpPaid:
		return msOrEmpty(o.Pay)
	case o.Op == OpEnded:
		return string(o.State)
	case o.Op == OpRetry:
		return min(o.Delay, longestDelay).Milliseconds()
	case o.Op == OpBack && suspects && !o.Join:
		return "suspect"
	case o.Op == OpBack:
		return "wait"
	}
	return cleanReason(o.Reason)
}

// cleanReason keeps a reason from breaking the record it is written into.
func cleanReason(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// Reclaim takes over up to 16 batches whose lease has run out, as many whose
// lease was given by a clock that has been set back since, and those that have
// none. It returns how many batches and tickets those were.
func (l *Line) Reclaim(ctx context.Context) (batches, tickets int64, err error) {
	keys := []string{l.keys.lease, l.keys.leased, l.keys.suspect, l.keys.attempts, l.keys.lost, l.keys.meta}
	list, err := l.scripts.reclaim.RunList(ctx, l.rdb, keys, 16, keepLost, keepStepsFor.Milliseconds())
	if err != nil {
		return 0, 0, err
	}
	return toInt(list[0]), toInt(list[1]), nil
}

// longestDelay bounds the delay of a retry. One that is further away was set before Redis' clock was set back.
const longestDelay = time.Minute

// Promote makes up to n retried tickets claimable whose delay is over, or
// longer than any delay is.
func (l *Line) Promote(ctx context.Context, n int) (int64, error) {
	keys := []string{l.keys.retry, l.keys.suspect, l.keys.meta}
	return l.scripts.promote.RunInt(ctx, l.rdb, keys, n, longestDelay.Milliseconds())
}

// Cancel ends a ticket at its owner's wish while no worker has it. It returns
// ErrUnknown for another user's order, ErrNotWaiting when it has been
// confirmed or has ended (the database knows), ErrBusy while a worker has it
// and ErrNotReady while the line is being rebuilt, or when too few replicas
// acknowledged: the ticket may then be cancelled, and calling again tells.
func (l *Line) Cancel(ctx context.Context, id, user string) error {
	k := l.keys
	keys := []string{k.meta, k.stock, k.orders, k.holders, k.wait, k.retry, k.leased, k.cancels}
	n, err := l.changeDurably(ctx, l.scripts.cancel, keys, id, user, l.statusChannel, l.sale, l.stockChannel, l.instanceText)
	if err != nil {
		return err
	}
	switch n {
	case 1:
		return nil
	case 0:
		return ErrNotWaiting
	case -1:
		return ErrUnknown
	case -2:
		return ErrBusy
	}
	return ErrNotReady
}

// Ended names a confirmed order that has ended in the database.
type Ended struct {
	ID    string
	State State // Cancelled or Expired
}

// Release gives back the units and slots of confirmed orders that have ended
// in the database. It may be repeated: an order is released once. Ledger is the
// newest change of the ledger that the caller has committed, 0 when it does not
// know. Returns ErrNotReady, having done nothing, while the line is not ready.
func (l *Line) Release(ctx context.Context, ended []Ended, ledger int64) error {
	args := []any{keepDone, l.statusChannel, l.sale, keepReleased, l.stockChannel, ledger}
	for _, e := range ended {
		args = append(args, e.ID, string(e.State))
	}
	k := l.keys
	return l.ready(l.change(ctx, l.scripts.release, []string{k.meta, k.stock, k.orders, k.holders, k.done, k.released, k.due, k.cancels}, args...))
}

// Lookup returns the tickets the line still knows, by order id, and the
// sequence up to which tickets have been claimed. Unknown ids are absent.
func (l *Line) Lookup(ctx context.Context, ids []string) (map[string]Ticket, int64, error) {
	if len(ids) == 0 {
		return nil, 0, nil
	}
	found := l.Lines.Lookup(ctx, []Lookup{{l.sale, ids}})[0]
	return found.Tickets, found.Claimed, found.Err
}

// HeldBy returns the ids of the orders a user holds, by sale, in one round
// trip for all the sales asked for, and the error of each line that could not
// be read.
func (ls *Lines) HeldBy(ctx context.Context, sales []string, user string) (ids map[string][]string, failed map[string]error) {
	if len(sales) == 0 {
		return nil, nil
	}
	pipe := ls.rdb.Pipeline()
	held := make([]*goredis.StringCmd, len(sales))
	for i, sale := range sales {
		held[i] = pipe.HGet(ctx, ls.table.of(sale).holders, user)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	ids, failed = make(map[string][]string), make(map[string]error)
	for i, sale := range sales {
		if err := held[i].Err(); err != nil && !errors.Is(err, goredis.Nil) {
			failed[sale] = fmt.Errorf("read what a user holds in the line of %s: %w", sale, err)
			continue
		}
		for one := range strings.SplitSeq(held[i].Val(), ",") {
			if id, _, ok := strings.Cut(one, ":"); ok {
				ids[sale] = append(ids[sale], id)
			}
		}
	}
	return ids, failed
}

func toInt(v any) int64 {
	switch x := v.(type) {
	case int64:
		return x
	case string:
		n, _ := strconv.ParseInt(x, 10, 64)
		return n
	}
	return 0
}
