package queue

import (
	"context"
	"fmt"
	"time"
)

// Survey is what is left in a closed line.
type Survey struct {
	Tickets  []Ticket // still to be worked on, and ended ones still to be recorded in the database
	Head     Head
	Repeats  int64    // list entries beyond the first of a ticket: a worker takes them off when the ticket has ended
	answered []string // id and record, in turn: orders, listed ones included, and what ended and left the line
	stale    []string // ids whose records are not needed any more once the line is restored
}

// Head is what a line remembers of itself; the zero value when that is lost.
type Head struct {
	Version, Seq, Base, Marks, Ledger int64
	State                             string
	StartsAt, EndsAt                  time.Time
	Limit                             int
	Total                             int64
}

// Orders yields each order that exists or has ended, as its owner was answered, until yield says false.
// Of orders that exist a line knows all; of those that ended, the newest 10,000 and the dead letters.
func (s Survey) Orders(yield func(Ticket) bool) {
	for i := 0; i+1 < len(s.answered); i += 2 {
		if t, err := ParseTicket(s.answered[i], s.answered[i+1]); err == nil && !yield(t) {
			return
		}
	}
}

// Survey reads what is left in a closed line. Tickets whose list entry was lost
// are put back into the line as isolated ones. It deletes nothing: Restore does.
func (l *Line) Survey(ctx context.Context, epoch int64) (Survey, error) {
	var s Survey
	listed, err := l.members(ctx, l.keys.wait, l.keys.isolated)
	if err != nil {
		return s, err
	}
	dead, err := l.members(ctx, l.keys.dead)
	if err != nil {
		return s, err
	}
	done, err := l.members(ctx, l.keys.done)
	if err != nil {
		return s, err
	}
	if s.Head, err = l.head(ctx); err != nil {
		return s, err
	}
	var stranded []string
	var unreadable []Poison
	var cursor uint64
	for {
		page, next, err := l.rdb.HScan(ctx, l.keys.orders, cursor, "", 1000).Result()
		if err != nil {
			return s, fmt.Errorf("read the orders of line %s: %w", l.sale, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			t, err := ParseTicket(page[i], page[i+1])
			if again := listed[page[i]] - 1; again > 0 {
				s.Repeats += again
				listed[page[i]] = 1 // HSCAN may show an entry twice
			}
			switch {
			case dead[page[i]] > 0 && listed[page[i]] == 0:
				s.answered = append(s.answered, page[i], page[i+1])
			case err == nil && listed[t.ID] > 0:
				s.Tickets = append(s.Tickets, t)
				if t.State.sold() { // by an earlier rebuild: its worker has not taken it off the list yet
					s.answered = append(s.answered, page[i], page[i+1])
				}
			case err == nil && !t.State.sold() && done[t.ID] == 0:
				listed[t.ID] = 1 // as above
				stranded = append(stranded, t.ID)
				s.Tickets = append(s.Tickets, t)
			case err != nil && listed[page[i]] > 0:
				unreadable = append(unreadable, Poison{ID: page[i]})
			default:
				s.stale = append(s.stale, page[i])
				s.answered = append(s.answered, page[i], page[i+1])
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if err := l.keepUnreadable(ctx, &s, unreadable); err != nil {
		return s, err
	}
	s.Tickets = uniqueTickets(s.Tickets)
	return s, l.restore(ctx, epoch, "LPUSH", l.keys.isolated, stranded)
}

// keepUnreadable makes survivors of listed tickets whose records cannot be read, out of what their holders hold. A
// worker fails them and tells their owners. The record of one that nobody holds goes.
func (l *Line) keepUnreadable(ctx context.Context, s *Survey, unreadable []Poison) error {
	if len(unreadable) == 0 {
		return nil
	}
	held, err := l.HoldersOf(ctx, unreadable)
	if err != nil {
		return err
	}
	for _, p := range unreadable {
		if t, ok := held[p.ID]; ok {
			s.Tickets = append(s.Tickets, t)
		} else {
			s.stale = append(s.stale, p.ID)
		}
	}
	return nil
}

func (l *Line) head(ctx context.Context) (Head, error) {
	v, err := l.rdb.HMGet(ctx, l.keys.meta, metaVersion, metaSeq, metaBase, metaMarks, metaLedger, metaState,
		metaStarts, metaEnds, metaLimit, metaTotal).Result()
	if err != nil {
		return Head{}, fmt.Errorf("read the head of line %s: %w", l.sale, err)
	}
	state, _ := v[5].(string)
	return Head{
		Version: toInt(v[0]), Seq: toInt(v[1]), Base: toInt(v[2]), Marks: toInt(v[3]), Ledger: toInt(v[4]),
		State:    state,
		StartsAt: time.UnixMilli(toInt(v[6])).UTC(), EndsAt: time.UnixMilli(toInt(v[7])).UTC(),
		Limit: int(toInt(v[8])), Total: toInt(v[9]),
	}, nil
}

// members returns how often each id stands in some lists of the line.
func (l *Line) members(ctx context.Context, lists ...string) (map[string]int64, error) {
	ids := map[string]int64{}
	for _, key := range lists {
		for from := int64(0); ; from += 1000 {
			page, err := l.rdb.LRange(ctx, key, from, from+999).Result()
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", key, err)
			}
			for _, id := range page {
				ids[id]++
			}
			if len(page) < 1000 {
				break
			}
		}
	}
	return ids, nil
}

// uniqueTickets drops repeated tickets.
func uniqueTickets(tickets []Ticket) []Ticket {
	seen := make(map[string]bool, len(tickets))
	kept := tickets[:0]
	for _, t := range tickets {
		if !seen[t.ID] {
			seen[t.ID] = true
			kept = append(kept, t)
		}
	}
	return kept
}
