package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/queue"
	"sluice/store"
)

// Restorer puts orders back into a ledger that has lost them. Told are orders of one sale as their owners were told of
// them, in the order of their admission. Behind says that the database lost commits, so that the line is right where
// both have an order; otherwise the ledger is, but of tickets that were cancelled in the line. It may be repeated.
type Restorer func(ctx context.Context, r Restoration) (Restored, error)

// Restoration is what is to be put back into one sale's ledger.
type Restoration struct {
	Sale   Sale // with the epoch under which its line is rebuilt
	Told   []queue.Ticket
	Behind bool
}

// Restored is what came of it.
type Restored struct {
	Orders  int64 // put back, or brought to the state that their owners were told
	Refused int64 // recorded as failed with queue.ReasonLost: no unit or slot was left
}

// RestoreBy names who puts orders back. Without it a rebuild takes the ledger as it finds it.
func (k *Reconciler) RestoreBy(r Restorer) { k.restorer = r }

const restoreMost = 500 // orders that are put back in one step

// restoreLedger puts back what the line knows and the ledger lacks, first of all: the units of orders whose owners were
// told that they are confirmed must not be sold to others.
func (k *Reconciler) restoreLedger(ctx context.Context, id string, epoch int64, left queue.Survey) (Restored, error) {
	var total Restored
	if k.restorer == nil {
		return total, nil
	}
	sale, behind, err := k.restoreSale(ctx, id, left.Head)
	if err != nil {
		return total, err
	}
	sale.Epoch = epoch
	lacking, err := k.lacking(ctx, id, left, behind)
	if err != nil {
		return total, err
	}
	for chunk := range slices.Chunk(lacking, restoreMost) {
		done, err := k.restorer(ctx, Restoration{Sale: sale, Told: chunk, Behind: behind})
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

// lacking are the orders of the line that the ledger has not, or, when it is behind, has in another state; by their
// sequence.
func (k *Reconciler) lacking(ctx context.Context, id string, left queue.Survey, behind bool) ([]queue.Ticket, error) {
	states, err := k.states(ctx, id)
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
	// An owner who cancels a ticket that an earlier worker has made an order of is told so: the order ends.
	for _, t := range left.Tickets {
		if _, live := states[t.ID]; live && t.State == queue.Cancelled {
			missing[t.ID] = t
		}
	}
	lacking := slices.Collect(maps.Values(missing))
	slices.SortFunc(lacking, func(a, b queue.Ticket) int { return int(a.Seq - b.Seq) })
	return lacking, nil
}

// states are the live orders of a sale.
func (k *Reconciler) states(ctx context.Context, id string) (map[string]queue.State, error) {
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

// restoreSale brings back what operators had set and the line still knows: a stop is never undone, and units that were
// added have been sold. It reports whether the database lacks commits.
func (k *Reconciler) restoreSale(ctx context.Context, id string, head queue.Head) (sale Sale, behind bool, err error) {
	err = k.db.Tx(ctx, func(tx *gorm.DB) error {
		if sale, err = lockSale(tx, id); err != nil {
			return err
		}
		var stock Stock
		if err := store.ForUpdate(tx).Take(&stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		behind = head.Ledger > stock.Changes || head.Version > sale.Version
		if head.Version <= sale.Version {
			return nil
		}
		before := sale
		sale.State, sale.StartsAt, sale.EndsAt = head.State, head.StartsAt.UnixMilli(), head.EndsAt.UnixMilli()
		sale.PerUserLimit, sale.Version, sale.UpdatedAt = head.Limit, head.Version, k.now().UnixMilli()
		if err := tx.Model(&Sale{}).Where("id = ?", id).Updates(map[string]any{"state": sale.State,
			"starts_at": sale.StartsAt, "ends_at": sale.EndsAt,
			"per_user_limit": sale.PerUserLimit, "version": sale.Version, "updated_at": sale.UpdatedAt}).
			Error; err != nil {
			return err
		}
		delta := max(head.Total-stock.Total, -stock.Available)
		if delta != 0 {
			if err := tx.Model(&Stock{}).Where("sale_id = ?", id).Updates(map[string]any{"total": stock.Total + delta,
				"available": stock.Available + delta, "changes": gorm.Expr("changes + 1")}).Error; err != nil {
				return err
			}
			if err := addMove(tx, Adjustment{Sale: id, Delta: delta, Reason: restoreReason, Actor: restoreActor},
				sale.UpdatedAt); err != nil {
				return err
			}
		}
		act := adminlog.Act{Actor: restoreActor, Action: "sale.restore", Sale: id, Target: id, Reason: restoreReason}
		return act.Write(tx, k.now(), before.image(), sale.image())
	})
	return sale, behind, err
}

const (
	restoreActor  = "keeper"
	restoreReason = "the database came back without its last commits"
)

// errLostAgain says that the database lost commits once more while a line was rebuilt from it.
var errLostAgain = errors.New("the database lost orders again that had just been put back: the rebuild begins anew")

// stillThere returns errLostAgain when the ledger, as a rebuild read it, lacks a row of an order that was told
// confirmed. Going on would drop the line's record of it, the last that is left.
func (k *Reconciler) stillThere(ctx context.Context, l ledgerState, left queue.Survey) error {
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
