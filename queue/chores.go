package queue

import (
	"context"

	"sluice/internal/luascript"
)

// chores are what there is to do in a line that nobody has announced.
type chores int64

// As lua/chores.lua adds them up.
const (
	claimable  chores = 1 << iota // tickets wait for a worker
	takeOver                      // a lease has run out
	promoteDue                    // the delay of a retry is over
)

// chores asks several lines in one round trip; the answers are in the order of sales, each with an error of its own.
func (ls *Lines) chores(ctx context.Context, sales []string) ([]chores, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		k := ls.ring.of(sale)
		calls[i].Keys = []string{k.wait, k.suspect, k.lease, k.leased, k.retry, k.meta}
		calls[i].Args = []any{longestDelay.Milliseconds()}
	}
	found, failed := make([]chores, len(sales)), make([]error, len(sales))
	for i, a := range ls.scripts.chores.RunEach(ctx, ls.rdb, calls) {
		n, err := a.Int()
		found[i], failed[i] = chores(n), err
	}
	return found, failed
}
