package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sluice/inventory"
	"sluice/queue"
)

// Restorer puts orders back into a ledger that has lost them. It may be repeated.
type Restorer func(ctx context.Context, r Restoration) (Restored, error)

// Restoration is what is to be put back into one sale's ledger.
type Restoration struct {
	Sale     inventory.Sale // with the epoch under which its line is rebuilt
	Answered []queue.Ticket // its orders as their owners were answered, in the order of their admission
	// Behind says that the database lost commits: the line is right where both have an order. Otherwise the ledger is,
	// but for tickets that were cancelled in the line.
	Behind bool
}

// Restored is what came of it.
type Restored struct {
	Orders  int64 // put back, or brought to the state that their owners were answered
	Refused int64 // recorded as failed with queue.ReasonLost: no unit or slot was left
}

// RestoreBy names who puts orders back. Without it a rebuild takes the ledger as it finds it.
func (k *Reconciler) RestoreBy(r Restorer) { k.restorer = r }

const restoreMost = 500 // orders that are put back in one step

// restoreLedger puts back what the line knows and the ledger lacks, first of all. Some owners were answered that they
// are confirmed: their units must not be sold to others.
func (k *Reconciler) restoreLedger(ctx context.Context, id string, epoch int64, left queue.Survey) (Restored, error) {
	var total Restored
	if k.restorer == nil {
		return total, nil
	}
	sale, behind, err := k.sales.Restore(ctx, id, left.Head)
	if err != nil {
		return total, err
	}
	sale.Epoch = epoch
	lacking, err := k.missingOrders(ctx, id, left, behind)
	if err != nil {
		return total, err
	}
	for chunk := range slices.Chunk(lacking, restoreMost) {
		done, err := k.restorer(ctx, Restoration{Sale: sale, Answered: chunk, Behind: behind})
		total.Orders, total.Refused = total.Orders+done.Orders, total.Refused+done.Refused
		if err != nil {
			return total, fmt.Errorf("put orders back into the ledger: %w", err)
		}
	}
	if behind {
		k.log.Error("the database came back without its last commits: what the line knew was put back",
			"sale", id, "line_knows_change", left.Head.Ledger, "restored", total.Orders, "refused", total.Refused)
	}
	return total, nil
}

// missingOrders returns the orders of the line that the ledger has not, by their sequence. When it is behind, it also
// returns those that it has in another state.
func (k *Reconciler) missingOrders(ctx context.Context, id string, left queue.Survey,
	behind bool) ([]queue.Ticket, error) {
	states, err := k.liveStates(ctx, id)
	if err != nil {
		return nil, err
	}
	missing := map[string]queue.Ticket{}
	for t := range left.Orders {
		known, live := states[t.ID]
		sold := t.State == queue.Confirmed || t.State == queue.Paid
		if sold && !live || behind && live && known != t.State || behind && (!sold && !live || t.Refund) {
			missing[t.ID] = t
		}
	}
	// An owner who cancels a ticket is answered that the order ends. So it does where an earlier worker has made an
	// order of it.
	for _, t := range left.Tickets {
		if _, live := states[t.ID]; live && t.State == queue.Cancelled {
			missing[t.ID] = t
		}
	}
	lacking := slices.Collect(maps.Values(missing))
	slices.SortFunc(lacking, func(a, b queue.Ticket) int { return int(a.Seq - b.Seq) })
	return lacking, nil
}

// liveStates returns the states of the live orders of a sale.
func (k *Reconciler) liveStates(ctx context.Context, id string) (map[string]queue.State, error) {
	var rows []struct{ ID, Status string }
	if err := k.db.Write.WithContext(ctx).Table("orders").Where("sale_id = ? AND slot IS NOT NULL", id).
		Select("id, status").Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("read the orders of %s: %w", id, err)
	}
	states := make(map[string]queue.State, len(rows))
	for _, r := range rows {
		states[r.ID] = queue.Confirmed
		if r.Status == "paid" {
			states[r.ID] = queue.Paid
		}
	}
	return states, nil
}

// errLostAgain says that the database lost commits once more while a line was rebuilt from it.
var errLostAgain = errors.New("the database lost orders again that had just been put back: the rebuild begins anew")

// checkRestored returns errLostAgain when the ledger lacks a row of an order that was answered confirmed. It is the
// ledger as a rebuild read it. Going on would drop the line's record of it, the last that is left.
func (k *Reconciler) checkRestored(ctx context.Context, l ledgerState, left queue.Survey) error {
	if k.restorer == nil {
		return nil
	}
	live := make(map[string]bool, len(l.live))
	for _, t := range l.live {
		live[t.ID] = true
	}
	ended := map[string]bool{} // or lost: HSCAN may have shown an entry twice
	for t := range left.Orders {
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
