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
func (k *Keeper) settled(ctx context.Context, sales []saleAndTotal, verified bool) (map[string]bool, error) {
	if !verified {
		return nil, nil
	}
	unreleased, err := k.unreleased(ctx)
	if err != nil {
		return nil, err
	}
	settled := make(map[string]bool, len(sales))
	for chunk := range slices.Chunk(sales, lookChunk) {
		for i, view := range k.views(ctx, chunk) {
			s := chunk[i]
			settled[s.ID] = !unreleased[s.ID] && k.agrees(s.Sale, view)
		}
	}
	return settled, nil
}

// views looks at lines in one round trip. It returns nothing when one of them
// could not be looked at: each is then kept by itself, so that one alone is held up.
func (k *Keeper) views(ctx context.Context, sales []saleAndTotal) []queue.View {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ids := make([]string, len(sales))
	for i, s := range sales {
		ids[i] = s.ID
	}
	views, err := k.lines.Views(ctx, ids)
	if err != nil {
		return nil
	}
	return views
}

// agrees reports that keepOne would find nothing to do in a verified line.
func (k *Keeper) agrees(s Sale, v queue.View) bool {
	if !v.Exists {
		return s.Finished(k.now())
	}
	return !s.Finished(v.Now) && !v.Gate && v.Epoch == s.Epoch && v.Version >= s.Version && k.capFits(s, v.Cap)
}
