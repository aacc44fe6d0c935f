package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A rebuild brings a line back into agreement with the ledger: Begin closes
// it, Survey tells what is left in it, Restore writes what the ledger
// knows, Reopen opens it with the numbers computed from both. Any step may be
// repeated by a later rebuild with a higher epoch when this one dies.

const (
	restoreChunk = 500 // values in one call
	restoreRound = 32  // calls in one round trip
)

// Begin closes the line for everybody under a new epoch and takes what
// workers hold from them. It reports false when the line already has this
// epoch or a newer one: somebody else is at it.
func (l *Line) Begin(ctx context.Context, epoch int64) (bool, error) {
	k := l.keys
	n, err := l.scripts.close.RunInt(ctx, l.rdb, []string{k.meta, k.suspect, k.lease, k.leased, k.retry}, epoch)
	return n == 1, err
}

// Survey is what is left in a closed line.
type Survey struct {
	Tickets []Ticket // still to be worked on, and ended ones still to be recorded in the database
	Head    Head
	Repeats int64    // list entries beyond the first of a ticket: a worker takes them off when the ticket has ended
	told    []string // id and record, in turn, of orders, listed ones included, and of what ended and has left the line
	stale   []string // ids whose records are not needed any more once the line is restored
}

// Head is what a line remembers of itself; the zero value when that is lost.
type Head struct {
	Version, Seq, Base, Marks, Ledger int64
	State                             string
	StartsAt, EndsAt                  time.Time
	Limit                             int
	Total                             int64
}

// AdmitResult calls with each order that exists or has ended, as its owner was told of it, until the callback says false. Of orders that exist
// a line knows all; of those that ended, the newest 10,000 and the dead letters.
func (s Survey) Orders(yield func(Ticket) bool) {
	for i := 0; i+1 < len(s.told); i += 2 {
		if t, err := ParseTicket(s.told[i], s.told[i+1]); err == nil && !yield(t) {
			return
		}
	}
}

// Survey reads what is left in a closed line. Tickets whose list entry was lost
// are put back into the line as suspects. It deletes nothing: Restore does.
func (l *Line) Survey(ctx context.Context, epoch int64) (Survey, error) {
	var s Survey
	listed, err := l.members(ctx, l.keys.wait, l.keys.suspect)
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
				s.told = append(s.told, page[i], page[i+1])
			case err == nil && listed[t.ID] > 0:
				s.Tickets = append(s.Tickets, t)
				if t.State.sold() { // by an earlier rebuild: its worker has not taken it off the list yet
					s.told = append(s.told, page[i], page[i+1])
				}
			case err == nil && !t.State.sold() && done[t.ID] == 0:
				listed[t.ID] = 1 // as above
				stranded = append(stranded, t.ID)
				s.Tickets = append(s.Tickets, t)
			case err != nil && listed[page[i]] > 0:
				unreadable = append(unreadable, Poison{ID: page[i]})
			default:
				s.stale = append(s.stale, page[i])
				s.told = append(s.told, page[i], page[i+1])
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if err := l.keepUnreadable(ctx, &s, unreadable); err != nil {
		return s, err
	}
	s.Tickets = unique(s.Tickets)
	return s, l.restore(ctx, epoch, "LPUSH", l.keys.suspect, stranded)
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
		Version: toInt(v[0]), Seq: toInt(v[1]), Base: toInt(v[2]), Marks: toInt(v[3]), Ledger: toInt(v[4]), State: state,
		StartsAt: time.UnixMilli(toInt(v[6])).UTC(), EndsAt: time.UnixMilli(toInt(v[7])).UTC(), Limit: int(toInt(v[8])), Total: toInt(v[9]),
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

func unique(tickets []Ticket) []Ticket {
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

// Restore drops what a survey found outside the line, and writes what the ledger knows into it: the records of its
// orders, live ones and the newest that ended, their payment deadlines, and,
// from the live ones and the surviving tickets, who holds what. At most keepDone ended orders are kept.
func (l *Line) Restore(ctx context.Context, epoch int64, ledger []Ticket, left Survey) error {
	survivors := left.Tickets
	dead, err := l.members(ctx, l.keys.dead)
	if err != nil {
		return err
	}
	surviving := make(map[string]State, len(survivors))
	for _, t := range survivors {
		surviving[t.ID] = t.State
	}
	live := make(map[string]bool, len(ledger))
	records := make([]string, 0, 2*len(ledger))
	var holding, ended []Ticket
	for _, t := range ledger {
		switch {
		case t.State.sold():
			// Also one that is still listed: its owner would cancel it as a ticket, and sell a unit that is sold.
			live[t.ID] = true
			holding = append(holding, t)
		case dead[t.ID] > 0 || surviving[t.ID] == Queued:
			continue
		case surviving[t.ID] == Cancelled && t.State != Cancelled:
			continue // its owner was told so, and a worker brings it to the row
		case surviving[t.ID] == 0:
			ended = append(ended, t)
		}
		records = append(records, t.ID, t.Record())
	}
	for _, t := range survivors {
		switch {
		case live[t.ID]:
		case t.State == Queued:
			holding = append(holding, t)
		case t.Held: // the stock that is computed for the line has its units
			t.Held = false
			records = append(records, t.ID, t.Record())
		}
	}
	return errors.Join(
		l.raiseSeq(ctx, epoch, survivors),
		l.restore(ctx, epoch, "HDEL", l.keys.orders, left.stale),
		l.restore(ctx, epoch, "HSET", l.keys.orders, records),
		l.clear(ctx, epoch, l.keys.holders),
		l.restore(ctx, epoch, "HSET", l.keys.holders, holdings(holding)),
		l.clear(ctx, epoch, l.keys.due),
		l.restore(ctx, epoch, "ZADD", l.keys.due, deadlines(ledger)),
		l.clear(ctx, epoch, l.keys.done),
		l.restore(ctx, epoch, "LPUSH", l.keys.done, oldestFirst(ended)),
	)
}

// holdings are the fields of the holders hash. The newest order of a user
// stands last: a refusal at the limit names it.
func holdings(tickets []Ticket) []string {
	slices.SortFunc(tickets, func(a, b Ticket) int { return cmp.Compare(a.Seq, b.Seq) })
	held := make(map[string]string, len(tickets))
	for _, t := range tickets {
		one := t.ID + ":" + strconv.Itoa(t.Slot) + ":" + strconv.Itoa(t.Units)
		if held[t.User] != "" {
			one = held[t.User] + "," + one
		}
		held[t.User] = one
	}
	fields := make([]string, 0, 2*len(held))
	for user, text := range held {
		fields = append(fields, user, text)
	}
	return fields
}

// deadlines are the scores and members of the due set. A confirmed order whose
// ticket still runs is in it too: its worker puts it there again.
func deadlines(ledger []Ticket) []string {
	var pairs []string
	for _, t := range ledger {
		if t.State == Confirmed && !t.PayBy.IsZero() {
			pairs = append(pairs, msOrEmpty(t.PayBy), t.ID)
		}
	}
	return pairs
}

// oldestFirst orders the ids of the orders that ended, the way they would have been pushed.
func oldestFirst(ended []Ticket) []string {
	slices.SortFunc(ended, func(a, b Ticket) int { return a.At.Compare(b.At) })
	ids := make([]string, len(ended))
	for i, t := range ended {
		ids[i] = t.ID
	}
	return ids
}

// raiseSeq keeps a line whose meta was lost from giving a survivor's sequence
// to somebody else: the ledger may not have seen it yet.
func (l *Line) raiseSeq(ctx context.Context, epoch int64, survivors []Ticket) error {
	seq, err := l.rdb.HGet(ctx, l.keys.meta, metaSeq).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read the sequence of line %s: %w", l.sale, err)
	}
	newest := seq
	for _, t := range survivors {
		newest = max(newest, t.Seq)
	}
	if newest == seq {
		return nil
	}
	return l.restore(ctx, epoch, "HSET", l.keys.meta, []string{metaSeq, strconv.FormatInt(newest, 10)})
}

// Reopened are the numbers with which a rebuilt line opens.
type Reopened struct {
	Stock  int64 // units that can still be reserved
	Seq    int64 // highest sequence that the ledger, or anybody, has seen
	Ledger int64 // newest change of the ledger
	Ended  int64 // tickets that are orders, or have ended, and are only there until a worker takes them off
	Older  bool  // the ledger has more ended orders than were written into the line
}

// Reopen opens a rebuilt line on the server on which its rebuild began.
func (l *Line) Reopen(ctx context.Context, s Settings, n Reopened) error {
	k := l.keys
	args := append(s.args(), n.Stock, n.Seq, n.Ledger, l.stockChannel, l.sale, firstRevision(s.Epoch), n.Ended, flag(n.Older))
	return rebuilt(l.scripts.reopen.RunInt(ctx, l.rdb, []string{k.meta, k.stock, k.wait, k.orders, k.released, k.suspect}, args...))
}

// Discard deletes a line that nobody needs any more: its sale has ended and all
// its orders are in the database. It does nothing when the line has changed
// since it was seen, or holds a ticket; nor, unless anyway is set, while it
// holds a dead letter or an order that must still be paid.
func (l *Line) Discard(ctx context.Context, seen View, anyway bool) error {
	_, err := l.scripts.discard.RunInt(ctx, l.rdb, l.keys.discard(), seen.Epoch, seen.Version, seen.Seq, flag(anyway))
	return err
}

// flag is a yes or no in an argument.
func flag(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

func (l *Line) clear(ctx context.Context, epoch int64, key string) error {
	return rebuilt(l.scripts.restore.RunInt(ctx, l.rdb, []string{l.keys.meta, key}, epoch, "DEL"))
}

// restore writes values in chunks, many chunks in one round trip: with
// appendfsync always each round trip waits for the disk once.
func (l *Line) restore(ctx context.Context, epoch int64, command, key string, values []string) error {
	keys := []string{l.keys.meta, key}
	for round := range slices.Chunk(values, restoreChunk*restoreRound) {
		pipe := l.rdb.Pipeline()
		var sent []*redis.Cmd
		var chunks [][]any
		for chunk := range slices.Chunk(round, restoreChunk) {
			args := make([]any, 0, len(chunk)+2)
			args = append(args, epoch, command)
			for _, v := range chunk {
				args = append(args, v)
			}
			chunks = append(chunks, args)
			sent = append(sent, l.scripts.restore.Queue(ctx, pipe, keys, args...))
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for i, cmd := range sent {
			n, err := cmd.Int64()
			if redis.HasErrorPrefix(err, "NOSCRIPT") {
				n, err = l.scripts.restore.RunInt(ctx, l.rdb, keys, chunks[i]...)
			}
			if err := rebuilt(n, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func rebuilt(n int64, err error) error {
	if err == nil && n == 0 {
		return fmt.Errorf("%w by somebody else under a newer epoch", ErrNotReady)
	}
	return err
}
