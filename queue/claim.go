package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/internal/luascript"
)

// ClaimEach claims from several lines in one round trip, under one batch id. It leaves out lines with nothing to claim.
// The errors are in the order of sales.
func (ls *Lines) ClaimEach(
	ctx context.Context, sales []string, id string, p Portion, lease time.Duration) ([]Batch, []error,
) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		calls[i] = ls.Of(sale).claimCall(id, p, lease)
	}
	batches, failed := make([]Batch, 0, len(sales)), make([]error, len(sales))
	for i, a := range ls.scripts.claim.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		var b Batch
		if err == nil {
			b, err = ls.Of(sales[i]).readClaim(ctx, id, list)
		}
		if failed[i] = err; err == nil && b.Size() > 0 {
			batches = append(batches, b)
		}
	}
	return batches, failed
}

// batchName returns the id of a batch of this instance.
func (ls *Lines) batchName(id string) string {
	if ls.instance == "" {
		return id
	}
	return ls.instance + "/" + id
}

// ownerOf undoes batchName.
func ownerOf(name string) (instance, id string) {
	at := strings.LastIndexByte(name, '/')
	return name[:max(at, 0)], name[at+1:]
}

// Batch is what one claim got: tickets that belong to this caller until the
// lease runs out.
type Batch struct {
	ID       string
	Sale     string
	Epoch    int64
	Isolated bool  // they failed before, or their worker died
	Solo     bool  // one isolated ticket, to be run alone
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

// Portion says how many of the waiting tickets a claim takes. It takes one part in Share of them, at least Least, at
// most Most. Isolated tickets come first, one alone. While more than two groups of so many wait, it takes a group of
// those that failed once at most. Isolated 0 leaves them where they are.
type Portion struct{ Most, Least, Share, Isolated int }

// Claim moves up to n of the oldest tickets, at most MaxBatch, into a batch of their own. It leases the batch under id,
// which must never have been used. An empty batch means that there was nothing to claim.
func (l *Line) Claim(ctx context.Context, id string, n int, lease time.Duration) (Batch, error) {
	return l.ClaimPortion(ctx, id, Portion{Most: n, Least: n, Share: 1, Isolated: 1}, lease)
}

// ClaimPortion claims a portion of what waits.
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
	return luascript.Call{Keys: []string{k.meta, k.wait, k.isolated, k.lease, k.leased, k.orders, k.attempts, k.recent},
		Args: []any{lease.Milliseconds(), l.batchName(id), min(p.Most, MaxBatch), p.Least, p.Share, p.Isolated,
			k.seen.newestRevision()}}
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
	b := Batch{ID: l.batchName(id), Sale: l.sale, Epoch: toInt(list[0]), Isolated: toInt(list[1]) == 1,
		Solo: toInt(list[1]) == 1 && len(ids) == 1, Left: toInt(list[3]), Ledger: toInt(list[6]),
		Tickets: make([]Ticket, 0, len(ids))}
	for i, order := range ids {
		t, err := ParseTicket(order, records[i])
		if err != nil {
			b.Poisoned = append(b.Poisoned, Poison{ID: order, Seq: nextSeq(b.Tickets), Err: err})
			continue
		}
		t.Attempts = int(toInt(list[2]))
		b.Tickets = append(b.Tickets, t)
	}
	return b, nil
}

// nextSeq returns the sequence behind the last of some tickets, 0 when there are none. In the line a ticket stands
// behind the one that was admitted before it.
func nextSeq(tickets []Ticket) int64 {
	if len(tickets) == 0 {
		return 0
	}
	return tickets[len(tickets)-1].Seq + 1
}

// recordsOf cuts the records of a claim apart. One that holds a line feed is no record. Which it is
// shows when they are read again, one by one.
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

// leaseOrders is how many order ids of one batch Leases names.
const leaseOrders = 20

// Lease is a batch that a worker holds.
type Lease struct {
	Batch    string
	Instance string // whose worker it is; empty where that was not said
	Tickets  int64
	Orders   []string // the first of them, at most 20
	Deadline time.Time
	Left     time.Duration // until then; negative once it has run out and nobody has taken the batch over yet
}

// Leases returns up to most batches that workers hold, after skipping some, and how many there are in all. Those whose
// lease ends first come first.
func (l *Line) Leases(ctx context.Context, skip int64, most int) (leases []Lease, all int64, err error) {
	list, err := l.scripts.leases.RunList(ctx, l.rdb, []string{l.keys.lease, l.keys.leased}, skip, most, leaseOrders)
	if err != nil {
		return nil, 0, err
	}
	now := time.UnixMilli(toInt(list[0]))
	for i := 2; i+3 < len(list); i += 4 {
		name, _ := list[i].(string)
		orders, _ := list[i+3].(string)
		deadline := time.UnixMilli(toInt(list[i+1])).UTC()
		one := Lease{Tickets: toInt(list[i+2]), Deadline: deadline, Left: deadline.Sub(now)}
		one.Instance, one.Batch = ownerOf(name)
		if orders != "" {
			one.Orders = strings.Split(orders, ",")
		}
		leases = append(leases, one)
	}
	return leases, toInt(list[1]), nil
}

// Reclaim takes over batches: up to 16 whose lease has run out, and all that have none. It takes as many whose lease
// was given by a clock that was set back since. It returns how many batches and tickets those were.
func (l *Line) Reclaim(ctx context.Context) (batches, tickets int64, err error) {
	keys := []string{l.keys.lease, l.keys.leased, l.keys.isolated, l.keys.attempts, l.keys.reclaimed, l.keys.meta}
	list, err := l.scripts.reclaim.RunList(ctx, l.rdb, keys, 16, keepReclaimed, keepStepsFor.Milliseconds())
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
	keys := []string{l.keys.retry, l.keys.isolated, l.keys.meta}
	return l.scripts.promote.RunInt(ctx, l.rdb, keys, n, longestDelay.Milliseconds())
}

// Maintenance says what there is to do in a line that nobody has announced. It
// is a sum of the constants below, as lua/maintenance.lua adds them up.
type Maintenance int64

// The kinds of maintenance.
const (
	Claimable  Maintenance = 1 << iota // tickets wait for a worker
	TakeOver                           // a lease has run out
	PromoteDue                         // the delay of a retry is over
)

// Maintenance asks several lines in one round trip what there is to do. The
// answers are in the order of sales, each with an error of its own.
func (ls *Lines) Maintenance(ctx context.Context, sales []string) ([]Maintenance, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		k := ls.table.of(sale)
		calls[i].Keys = []string{k.wait, k.isolated, k.lease, k.leased, k.retry, k.meta}
		calls[i].Args = []any{longestDelay.Milliseconds()}
	}
	found, failed := make([]Maintenance, len(sales)), make([]error, len(sales))
	for i, reply := range ls.scripts.maintenance.RunEach(ctx, ls.rdb, calls) {
		n, err := reply.Int()
		found[i], failed[i] = Maintenance(n), err
	}
	return found, failed
}
