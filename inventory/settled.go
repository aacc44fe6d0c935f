package inventory

import (
	"context"
	"slices"
	"time"

	"sluice/queue"
)

// settled tells the sales whose lines a round need not touch, from one look at
// all of them: a keeper of a thousand sales asks the stores a few questions,
// not a few thousand. What is said here only spares a look; whoever changes a
// line looks at it once more.
func (k *Keeper) settled(ctx context.Context, sales []saleAndTotal) (map[string]bool, error) {
	unreleased, err := k.unreleased(ctx)
	if err != nil {
		return nil, err
	}
	settled := make(map[string]bool, len(sales))
	for chunk := range slices.Chunk(sales, lookChunk) {
		views, failed := k.views(ctx, chunk)
		for i, s := range chunk {
			settled[s.ID] = failed[i] == nil && !unreleased[s.ID] && k.agrees(s, views[i]) && k.learn(ctx, s.ID, s.Epoch) == nil
		}
	}
	return settled, nil
}

// views looks at lines in one round trip. One that could not be looked at is kept by itself, so that it alone is held up.
func (k *Keeper) views(ctx context.Context, sales []saleAndTotal) ([]queue.View, []error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ids := make([]string, len(sales))
	for i, s := range sales {
		ids[i] = s.ID
	}
	return k.lines.Views(ctx, ids)
}

// agrees reports that keepOne would find nothing to do in a line.
func (k *Keeper) agrees(s saleAndTotal, v queue.View) bool {
	if !v.Exists {
		return s.Finished(k.now())
	}
	return !s.Finished(v.Now) && !v.Gate && v.Verified && v.Epoch == s.Epoch && v.Version >= s.Version && !s.behind(v) && k.capFits(s.Sale, v.Cap)
}
