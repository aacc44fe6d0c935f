package queue

import (
	"context"
	"time"

	"sluice/internal/luascript"
)

// ClaimEach claims from several lines in one round trip, under one batch id;
// lines with nothing to claim are left out. The errors are in the order of
// sales.
func (ls *Lines) ClaimEach(ctx context.Context, sales []string, id string, p Portion,
	lease time.Duration) ([]Batch, []error) {
	calls := make([]luascript.Call, len(sales))
	for i, sale := range sales {
		calls[i] = ls.Of(sale).claimCall(id, p, lease)
	}
	batches, failed := make([]Batch, 0, len(sales)), make([]error, len(sales))
	for i, a := range ls.scripts.claim.RunEach(ctx, ls.rdb, calls) {
		list, err := a.List()
		var b Batch
		if err == nil {
			b, err = ls.Of(sales[i]).readClaim(ctx, id, list)
		}
		if failed[i] = err; err == nil && b.Size() > 0 {
			batches = append(batches, b)
		}
	}
	return batches, failed
}

// SettleEach is Line.Settle for several lines in one round trip, each with an error of its own.
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
