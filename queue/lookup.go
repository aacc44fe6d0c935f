package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// usersChunk is how many records one step of Users reads, about.
const usersChunk = 1000

// Users calls visit for the user of every order the line keeps a record of. These are live orders,
// and ended ones that are still answered. Some are visited twice. It returns the epoch of the line
// and the sequence up to which nobody was left out. It returns ErrNotReady when the line is
// missing, being rebuilt, or was loaded anew meanwhile. It reads in steps, so that a million orders
// hold nobody up for long; an error from visit ends it.
func (l *Line) Users(ctx context.Context, visit func(user string) error) (epoch, seq int64, err error) {
	epoch, seq, err = l.epochAndSeq(ctx)
	if err != nil {
		return 0, 0, err
	}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var pairs []string
		pairs, cursor, err = l.rdb.HScan(ctx, l.keys.orders, cursor, "", usersChunk).Result()
		if err != nil {
			return 0, 0, fmt.Errorf("read the users of %s: %w", l.sale, err)
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			t, err := ParseTicket(pairs[i], pairs[i+1])
			if err != nil {
				continue // not a record that admit could answer from
			}
			if err := visit(t.User); err != nil {
				return 0, 0, err
			}
		}
	}
	if again, _, err := l.epochAndSeq(ctx); err != nil || again != epoch {
		return 0, 0, fmt.Errorf("read the users of %s: %w", l.sale, ErrNotReady)
	}
	return epoch, seq, nil
}

// epochAndSeq returns the epoch of the line and the sequence of its newest ticket; ErrNotReady while it is rebuilt.
func (l *Line) epochAndSeq(ctx context.Context) (epoch, seq int64, err error) {
	v, err := l.rdb.HMGet(ctx, l.keys.meta, metaEpoch, metaGate, metaSeq).Result()
	if err != nil {
		return 0, 0, fmt.Errorf("read the users of %s: %w", l.sale, err)
	}
	if v[0] == nil || v[1] != nil {
		return 0, 0, fmt.Errorf("read the users of %s: %w", l.sale, ErrNotReady)
	}
	return toInt(v[0]), toInt(v[2]), nil
}

// UsersSince returns the users of the tickets admitted after a sequence, and
// the sequence of the newest of them. It reports false when it cannot name
// every one of them, at most most: Users then tells.
func (l *Line) UsersSince(
	ctx context.Context, epoch, seq int64, most int) (users []string, newest int64, ok bool, err error,
) {
	keys := []string{l.keys.meta, l.keys.wait, l.keys.orders, l.keys.recent}
	list, err := l.scripts.usersSince.RunList(ctx, l.rdb, keys, epoch, seq, most)
	if err != nil || len(list) == 0 {
		return nil, 0, false, err
	}
	text, _ := list[0].(string)
	if newest, err = strconv.ParseInt(text, 10, 64); err != nil {
		return nil, 0, false, fmt.Errorf("read the users of %s: sequence %q", l.sale, text)
	}
	users = make([]string, 0, len(list)-1)
	for _, one := range list[1:] {
		user, _ := one.(string)
		users = append(users, user)
	}
	return users, newest, true, nil
}

// Lookup returns the tickets the line still knows, by order id. It also returns the sequence up to
// which tickets have been claimed. Unknown ids are absent.
func (l *Line) Lookup(ctx context.Context, ids []string) (map[string]Ticket, int64, error) {
	if len(ids) == 0 {
		return nil, 0, nil
	}
	found := l.Lines.Lookup(ctx, []Lookup{{l.sale, ids}})[0]
	return found.Tickets, found.Claimed, found.Err
}

// HeldBy returns the ids of the orders that a user holds, by sale, in one round trip. Each line that could not be read
// has its error in failed.
func (ls *Lines) HeldBy(
	ctx context.Context, sales []string, user string) (ids map[string][]string, failed map[string]error,
) {
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

// Lookup is what is asked of one line about orders.
type Lookup struct {
	Sale string
	IDs  []string // at least one
}

// Found is the answer to a Lookup.
type Found struct {
	Tickets map[string]Ticket // those the line still knows, by order id
	Claimed int64             // sequence up to which tickets have been claimed
	Err     error             // of this line; what the others answered stands
}

// Lookup returns tickets of several lines in one round trip; see Line.Lookup.
func (ls *Lines) Lookup(ctx context.Context, asked []Lookup) []Found {
	pipe := ls.rdb.Pipeline()
	records, claimed := make([]*goredis.SliceCmd, len(asked)), make([]*goredis.StringCmd, len(asked))
	for i, one := range asked {
		keys := ls.table.of(one.Sale)
		records[i], claimed[i] = pipe.HMGet(ctx, keys.orders, one.IDs...), pipe.HGet(ctx, keys.meta, metaClaimed)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	found := make([]Found, len(asked))
	for i, one := range asked {
		err := claimed[i].Err()
		if errors.Is(err, goredis.Nil) {
			err = nil
		}
		if err = errors.Join(records[i].Err(), err); err != nil {
			found[i].Err = fmt.Errorf("look up %d orders of %s: %w", len(one.IDs), one.Sale, err)
			continue
		}
		found[i].Tickets = readRecords(one.IDs, records[i].Val())
		found[i].Claimed, _ = claimed[i].Int64()
	}
	return found
}

// readRecords reads the records of ids; what is no record is left out.
func readRecords(ids []string, records []any) map[string]Ticket {
	known := make(map[string]Ticket, len(ids))
	for i, v := range records {
		record, ok := v.(string)
		if !ok {
			continue
		}
		if t, err := ParseTicket(ids[i], record); err == nil {
			known[ids[i]] = t
		}
	}
	return known
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
