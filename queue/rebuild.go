package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// A rebuild brings a line back into agreement with the ledger. Begin closes it, and Survey reads what is left in it.
// Restore writes what the ledger knows, and Reopen opens it with the numbers computed from both. When it dies, a later
// rebuild with a higher epoch repeats its steps.

const (
	restoreChunk = 500 // values in one call
	restoreRound = 32  // calls in one round trip
)

// Begin closes the line for everybody under a new epoch and takes what
// workers hold from them. It reports false when the line already has this
// epoch or a newer one: somebody else is at it.
func (l *Line) Begin(ctx context.Context, epoch int64) (bool, error) {
	k := l.keys
	n, err := l.scripts.close.RunInt(ctx, l.rdb, []string{k.meta, k.isolated, k.lease, k.leased, k.retry}, epoch)
	return n == 1, err
}

// Restore drops what a survey found outside the line, and writes what the ledger knows into it. These are the records
// of live orders with their payment deadlines, and of the newest that ended, at most keepDone. Who holds what follows
// from the live ones and the surviving tickets.
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
			// Also one that is still listed. Its owner would cancel it as a ticket, and sell a unit that is sold.
			live[t.ID] = true
			holding = append(holding, t)
		case dead[t.ID] > 0 || surviving[t.ID] == Queued:
			continue
		case surviving[t.ID] == Cancelled && t.State != Cancelled:
			continue // its owner has the answer, and a worker brings it to the row
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
		l.deleteKey(ctx, epoch, l.keys.holders),
		l.restore(ctx, epoch, "HSET", l.keys.holders, holdings(holding)),
		l.deleteKey(ctx, epoch, l.keys.due),
		l.restore(ctx, epoch, "ZADD", l.keys.due, deadlines(ledger)),
		l.deleteKey(ctx, epoch, l.keys.done),
		l.restore(ctx, epoch, "LPUSH", l.keys.done, oldestFirst(ended)),
	)
}

// holdings returns the fields of the holders hash. The newest order of a user stands last: a refusal at the limit
// names it.
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

// deadlines returns the scores and members of the due set. A confirmed order whose
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

// raiseSeq keeps a line whose meta was lost from giving a survivor's sequence to somebody else. The
// ledger may not have seen it yet.
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
	args := append(s.args(), n.Stock, n.Seq, n.Ledger, l.stockChannel, l.sale, firstRevision(s.Epoch), n.Ended,
		oneOrZero(n.Older))
	return checkRebuild(l.scripts.reopen.RunInt(ctx, l.rdb, []string{k.meta, k.stock, k.wait, k.orders, k.released,
		k.isolated}, args...))
}

// Discard deletes a line that nobody needs any more. Its sale has ended and all its orders are in
// the database. It does nothing when the line has changed since it was seen, or holds a ticket.
// Unless anyway is set, it does nothing while the line holds a dead letter or an unpaid order.
func (l *Line) Discard(ctx context.Context, seen View, anyway bool) error {
	_, err := l.scripts.discard.RunInt(ctx, l.rdb, l.keys.discard(), seen.Epoch, seen.Version, seen.Seq,
		oneOrZero(anyway))
	return err
}

// oneOrZero writes a yes or no as an argument.
func oneOrZero(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// deleteKey deletes a key of a line that is being rebuilt.
func (l *Line) deleteKey(ctx context.Context, epoch int64, key string) error {
	return checkRebuild(l.scripts.restore.RunInt(ctx, l.rdb, []string{l.keys.meta, key}, epoch, "DEL"))
}

// restore writes values in chunks, many chunks in one round trip. With appendfsync always each
// round trip waits for the disk once.
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
			if err := checkRebuild(n, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkRebuild returns ErrNotReady for a step that answered 0: it is no longer this rebuild that has the line.
func checkRebuild(n int64, err error) error {
	if err == nil && n == 0 {
		return fmt.Errorf("%w by somebody else under a newer epoch", ErrNotReady)
	}
	return err
}
