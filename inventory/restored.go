package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/queue"
)

// errLostAgain says that the database lost commits once more while a line was rebuilt from it.
var errLostAgain = errors.New("the database lost orders again that had just been put back: the rebuild begins anew")

// stillThere returns errLostAgain when the ledger, as a rebuild read it, lacks a row of an order that was told confirmed. Going on
// would drop the line's record of it, the last that is left.
func (k *Keeper) stillThere(ctx context.Context, l ledgerState, left queue.Survey) error {
	if k.restorer == nil {
		return nil
	}
	live := make(map[string]bool, len(l.live))
	for _, t := range l.live {
		live[t.ID] = true
	}
	ended := map[string]bool{} // or lost: HSCAN may have shown an entry twice
	for t := range left.Told {
		if (t.State == queue.Confirmed || t.State == queue.Paid) && !live[t.ID] {
			ended[t.ID] = true
		}
	}
	ids := make([]string, 0, len(ended))
	for id := range ended {
		ids = append(ids, id)
	}
	for chunk := range slices.Chunk(ids, restoreMost) {
		var rows int64
		if err := k.db.Write.WithContext(ctx).Table("orders").Where("id IN ?", chunk).Count(&rows).Error; err != nil {
			return fmt.Errorf("look for orders that were put back: %w", err)
		}
		if rows < int64(len(chunk)) {
			return errLostAgain
		}
	}
	return nil
}
