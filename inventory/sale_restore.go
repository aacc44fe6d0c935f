package inventory

import (
	"context"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/queue"
	"sluice/store"
)

const (
	restoreActor  = "keeper"
	restoreReason = "the database came back without its last commits"
)

// Restore brings back what operators had set and the head of a line still knows. A stop is never undone, and units
// that were added have been sold. It reports whether the database lacks commits.
func (c *SaleStore) Restore(ctx context.Context, id string, head queue.Head) (sale Sale, behind bool, err error) {
	err = c.db.Tx(ctx, func(tx *gorm.DB) error {
		if sale, err = LockSale(tx, id); err != nil {
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
		sale.PerUserLimit, sale.Version, sale.UpdatedAt = head.Limit, head.Version, c.now().UnixMilli()
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
		return act.Write(tx, c.now(), before.image(), sale.image())
	})
	return sale, behind, err
}
