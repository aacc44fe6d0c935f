package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// buryUnreadable answers the entries of a batch that cannot be read as tickets,
// by their ids. Whose they are, and how many units they took, stands in the
// line's holdings too: such an order is recorded as failed like any dead letter,
// its record is written anew, and its units and its user's slot return. One that
// nobody holds can only be listed as a dead letter. While a store is away they
// go back as they are, and the fault says why.
func (c *Consumer) buryUnreadable(ctx context.Context, line *Line, b Batch) (outcomes map[string]Outcome, fault error) {
	if len(b.Poisoned) == 0 {
		return nil, nil
	}
	outcomes = make(map[string]Outcome, len(b.Poisoned))
	for _, p := range b.Poisoned {
		outcomes[p.ID] = Outcome{ID: p.ID, Op: OpBack}
		c.log.Error("unreadable ticket", "sale", b.Sale, "order", p.ID, "error", p.Err)
	}
	held, err := line.holdersOf(ctx, b.Poisoned)
	if err != nil {
		return outcomes, fmt.Errorf("%w: %w", errLine, err)
	}
	owned := b
	owned.Tickets, owned.Poisoned = nil, nil
	for _, p := range b.Poisoned {
		if t, ok := held[p.ID]; ok {
			owned.Tickets = append(owned.Tickets, t)
		} else {
			outcomes[p.ID] = Outcome{ID: p.ID, Op: OpDead, Reason: reasonUnreadable}
		}
	}
	if len(owned.Tickets) == 0 {
		return outcomes, nil
	}
	buried, fault := c.bury(ctx, owned, reasonUnreadable)
	for _, o := range buried {
		o.Record = held[o.ID].record()
		outcomes[o.ID] = o
	}
	return outcomes, fault
}

// errLine says that Redis could not be asked, of a fault that is not the database's.
var errLine = errors.New("the line could not be read")

const reasonUnreadable = "unreadable ticket"

// holdersOf finds in the line's holdings whose the orders are that cannot be
// read. Its cost grows with the users of the sale: it reads a thousand in a call.
func (l *Line) holdersOf(ctx context.Context, poisoned []Poison) (map[string]Ticket, error) {
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
				t := Ticket{ID: id, User: page[i], State: Queued, Seq: p.Seq, Slot: int(toInt(slot)), Units: int(toInt(units)), AdmittedAt: view.Now}
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
