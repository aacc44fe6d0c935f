package queue

import (
	"context"

	"sluice/internal/luascript"
)

// Maintenance says what there is to do in a line that nobody has announced. It
// is a sum of the constants below, as lua/maintenance.lua adds them up.
type Maintenance int64

// The kinds of maintenance.
const (
	Claimable  Maintenance = 1 << iota // tickets wait for a worker
	TakeOver                           // a lease has run out
	PromoteDue                         // the delay of a retry is over
)

// Maintenance asks several lines in one round trip what there is to do. The
// answers are in the order of sales, each with an error of its own.
func (ls *Lines) Maintenance(ctx context.Context, sales []string) ([]Maintenance, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		k := ls.table.of(sale)
		calls[i].Keys = []string{k.wait, k.suspect, k.lease, k.leased, k.retry, k.meta}
		calls[i].Args = []any{longestDelay.Milliseconds()}
	}
	found, failed := make([]Maintenance, len(sales)), make([]error, len(sales))
	for i, reply := range ls.scripts.maintenance.RunEach(ctx, ls.rdb, calls) {
		n, err := reply.Int()
		found[i], failed[i] = Maintenance(n), err
	}
	return found, failed
}
