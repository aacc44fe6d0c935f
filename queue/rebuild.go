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

// A rebuild brings a line back into agreement with the ledger: Begin closes
// it, Survivors tells what is left in it, Restore writes what the ledger
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
	n, err := l.scripts.gate.runInt(ctx, l.rdb, []string{k.meta, k.suspect, k.lease, k.leased, k.retry}, epoch)
	return n == 1, err
}

// Survivors returns the tickets that are left in a closed line: those still
// to be worked on, and ended ones still to be recorded in the database.
// Tickets whose list entry was lost are put back into the line as suspects.
// Dead letters keep their records; every other record is dropped.
func (l *Line) Survivors(ctx context.Context, epoch int64) ([]Ticket, error) {
	listed, err := l.members(ctx, l.keys.wait, l.keys.suspect)
	if err != nil {
		return nil, err
	}
	dead, err := l.members(ctx, l.keys.dead)
	if err != nil {
		return nil, err
	}
	done, err := l.members(ctx, l.keys.done)
	if err != nil {
		return nil, err
	}
	var tickets []Ticket
	var stranded, stale []string
	var cursor uint64
	for {
		page, next, err := l.rdb.HScan(ctx, l.keys.orders, cursor, "", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("read the orders of line %s: %w", l.sale, err)
		}
		for i := 0; i+1 < len(page); i += 2 {
			t, err := parseTicket(page[i], page[i+1])
			switch {
			case dead[page[i]]:
			case err == nil && listed[t.ID]:
				tickets = append(tickets, t)
			case err == nil && !t.State.sold() && !done[t.ID]:
				listed[t.ID] = true // HSCAN may show an entry twice
				stranded = append(stranded, t.ID)
				tickets = append(tickets, t)
			default:
				stale = append(stale, page[i])
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if err := l.restore(ctx, epoch, "HDEL", l.keys.orders, stale); err != nil {
		return nil, err
	}
	return unique(tickets), l.restore(ctx, epoch, "LPUSH", l.keys.suspect, stranded)
}

// members returns the ids in some lists of the line.
func (l *Line) members(ctx context.Context, lists ...string) (map[string]bool, error) {
	ids := map[string]bool{}
	for _, key := range lists {
		for from := int64(0); ; from += 1000 {
			page, err := l.rdb.LRange(ctx, key, from, from+999).Result()
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", key, err)
			}
			for _, id := range page {
				ids[id] = true
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

// Restore writes what the ledger knows into a closed line: the records of its
// orders, live ones and the newest that ended, their payment deadlines, and,
// from the live ones and the surviving tickets, who holds what. At most keepDone ended orders are kept.
func (l *Line) Restore(ctx context.Context, epoch int64, ledger, survivors []Ticket) error {
	dead, err := l.members(ctx, l.keys.dead)
	if err != nil {
		return err
	}
	surviving := make(map[string]bool, len(survivors))
	for _, t := range survivors {
		surviving[t.ID] = t.State == Queued
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
		case dead[t.ID] || surviving[t.ID]:
			continue
		default:
			ended = append(ended, t)
		}
		records = append(records, t.ID, t.record())
	}
	for _, t := range survivors {
		if t.State == Queued && !live[t.ID] {
			holding = append(holding, t)
		}
	}
	return errors.Join(
		l.raiseSeq(ctx, epoch, survivors),
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
	seq, err := l.rdb.HGet(ctx, l.keys.meta, "seq").Int64()
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
	return l.restore(ctx, epoch, "HSET", l.keys.meta, []string{"seq", strconv.FormatInt(newest, 10)})
}

// Reopen opens a rebuilt line. Stock is what can still be reserved; seq is the
// highest sequence the ledger has seen.
func (l *Line) Reopen(ctx context.Context, s Settings, stock, seq int64) error {
	run, err := l.Run(ctx)
	if err != nil {
		return err
	}
	k := l.keys
	args := append(s.args(), stock, seq, run, stockChannel, l.sale)
	return rebuilt(l.scripts.reopen.runInt(ctx, l.rdb, []string{k.meta, k.stock, k.wait, k.orders, k.released, k.suspect}, args...))
}

// Run names the run of the Redis that holds this line: another one after each
// restart and on every server, so that a line carries the mark of the Redis it
// was last compared on.
func (l *Line) Run(ctx context.Context) (string, error) {
	node, err := l.node(ctx)
	if err != nil {
		return "", err
	}
	text, err := node.Info(ctx, "server").Result()
	if err != nil && Unavailable(err) {
		return "", fmt.Errorf("ask redis for its run: %w", err)
	}
	// The in-process Redis tells none; it does not outlive its data.
	return cmp.Or(parseInfo(text)["run_id"], "in-process"), nil
}

// Drop deletes a line that nobody needs any more: its sale has ended and all
// its orders are in the database.
func (l *Line) Drop(ctx context.Context) error {
	if err := l.rdb.Unlink(ctx, l.keys.all()...).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("drop the line of %s: %w", l.sale, err)
	}
	return nil
}

func (l *Line) clear(ctx context.Context, epoch int64, key string) error {
	return rebuilt(l.scripts.restore.runInt(ctx, l.rdb, []string{l.keys.meta, key}, epoch, "DEL"))
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
			sent = append(sent, pipe.EvalSha(ctx, l.scripts.restore.sha, keys, args...))
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for i, cmd := range sent {
			n, err := cmd.Int64()
			if redis.HasErrorPrefix(err, "NOSCRIPT") {
				n, err = l.scripts.restore.runInt(ctx, l.rdb, keys, chunks[i]...)
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
