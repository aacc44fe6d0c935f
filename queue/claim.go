package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/internal/luascript"
)

// ClaimEach claims from several lines in one round trip, under one batch id;
// lines with nothing to claim are left out. The errors are in the order of
// sales.
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

// HoldersOf finds in the line's holdings whose the orders are that cannot be
// read. Its cost grows with the users of the sale: it reads a thousand in a call.
func (l *Line) HoldersOf(ctx context.Context, poisoned []Poison) (map[string]Ticket, error) {
	view, err := l.View(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make(map[string]Poison, len(poisoned))
	for _, p := range poisoned {
		if p.Seq == 0 || p.Seq > view.Seq {
			p.Seq = max(view.Claimed, 1)
		}
		wanted[p.ID] = p
	}
	found := make(map[string]Ticket, len(poisoned))
	for cursor := uint64(0); len(found) < len(wanted); {
		page, next, err := l.rdb.HScan(ctx, l.keys.holders, cursor, "", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("look for the owners of %d unreadable tickets of %s: %w", len(poisoned), l.sale, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			for one := range strings.SplitSeq(page[i+1], ",") {
				id, rest, _ := strings.Cut(one, ":")
				p, ok := wanted[id]
				slot, units, _ := strings.Cut(rest, ":")
				t := Ticket{ID: id, User: page[i], State: Queued, Seq: p.Seq, Slot: int(toInt(slot)),
					Units: int(toInt(units)), AdmittedAt: view.Now}
				if ok && t.Slot > 0 && t.Units > 0 && t.User != "" {
					found[id] = t
				}
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	return found, nil
}

// batchName is the id of a batch of this instance.
func (ls *Lines) batchName(id string) string {
	if ls.instance == "" {
		return id
	}
	return ls.instance + "/" + id
}

// ownerOf is the inverse of batchName.
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
		Args: []any{lease.Milliseconds(), l.batchName(id), min(p.Most, MaxBatch), p.Least, p.Share, p.Suspects,
			k.seen.newest()}}
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
	b := Batch{ID: l.batchName(id), Sale: l.sale, Epoch: toInt(list[0]), Suspects: toInt(list[1]) == 1,
		Solo: toInt(list[1]) == 1 && len(ids) == 1, Left: toInt(list[3]), Ledger: toInt(list[6]),
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

// after is the sequence behind the last of some tickets, 0 when there are none. In the line a
// ticket stands behind the one that was admitted before it.
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
