package queue

import (
	"context"
	"fmt"
	"strings"
)

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
