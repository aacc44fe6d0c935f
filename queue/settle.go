package queue

import (
	"context"
	"strings"
	"time"

	"sluice/internal/luascript"
)

// SettleEach settles batches of several lines in one round trip, each with an error of its own.
func (ls *Lines) SettleEach(ctx context.Context, batches []Batch, outcomes [][]Outcome) []error {
	calls := make([]luascript.Call, len(batches))
	for i, b := range batches {
		calls[i] = ls.Of(b.Sale).settleCall(b, outcomes[i])
	}
	failed := make([]error, len(batches))
	for i, a := range ls.scripts.settle.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		failed[i] = ls.Of(batches[i].Sale).settled(list, err)
	}
	return failed
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
	// its order has a row under an earlier sequence: the line had forgotten it when it was asked for
	// again
	Again  bool
	Record string // of a ticket that could not be read: what is written in its place first; empty: it stands
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
	n, err := l.readChange(l.scripts.settle, list, err)
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
		n := sameEnd(rest)
		args = append(args, string(rest[0].Op), rest[0].argument(b.Isolated || b.Solo), msOrEmpty(rest[0].At), n)
		for _, o := range rest[:n] {
			args = append(args, o.ID)
		}
		rest = rest[n:]
	}
	if ids := repeatedIDs(outcomes); len(ids) > 0 {
		args = append(append(args, "m", "", "", len(ids)), ids...)
	}
	k := l.keys
	return luascript.Call{Keys: []string{k.meta, k.stock, k.lease, k.leased, k.orders, k.holders, k.wait, k.isolated,
		k.retry, k.attempts, k.dead, k.done, k.due}, Args: args}
}

// newestLedger returns the newest change of the ledger among outcomes.
func newestLedger(outcomes []Outcome) (newest int64) {
	for i := range outcomes {
		newest = max(newest, outcomes[i].Ledger)
	}
	return newest
}

// repeatedIDs returns the ids of the outcomes whose orders have an earlier sequence.
func repeatedIDs(outcomes []Outcome) (ids []any) {
	for i := range outcomes {
		if outcomes[i].Again && outcomes[i].Op != OpBack && outcomes[i].Op != OpRetry {
			ids = append(ids, outcomes[i].ID)
		}
	}
	return ids
}

// sameEnd counts the outcomes, from the first, that differ by nothing but their order.
func sameEnd(outcomes []Outcome) int {
	first := outcomes[0]
	for n := range outcomes {
		o := outcomes[n]
		first.ID, first.Ledger, first.Again, first.Record = o.ID, o.Ledger, o.Again, o.Record
		if outcomes[n] != first {
			return n
		}
	}
	return len(outcomes)
}

// argument returns what lua/settle.lua needs beside the op and the ids: its value.
func (o Outcome) argument(isolated bool) any {
	switch {
	case o.Op == OpConfirm || o.Op == OpPaid:
		return msOrEmpty(o.Pay)
	case o.Op == OpEnded:
		return string(o.State)
	case o.Op == OpRetry:
		return min(o.Delay, longestDelay).Milliseconds()
	case o.Op == OpBack && isolated && !o.Join:
		return "isolated"
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
