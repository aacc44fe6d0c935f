package reconcile

import (
	"context"
	"errors"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
)

// releaseBatch is how many orders are brought back into a line in one step.
const releaseBatch = 500

// unreleasedSales returns the sales with orders whose units must return to their line.
func (k *Reconciler) unreleasedSales(ctx context.Context) (map[string]bool, error) {
	var ids []string
	err := k.db.Read.WithContext(ctx).Table("orders").Where("released = 0").Distinct("sale_id").Pluck("sale_id", &ids).
		Error
	if err != nil {
		return nil, err
	}
	sales := make(map[string]bool, len(ids))
	for _, id := range ids {
		sales[id] = true
	}
	return sales, nil
}

type unreleasedRow struct{ ID, Status string }

// Release brings units of orders of one sale that ended in the database back into its line. Callers do it right after
// their transaction; whatever they miss, the next round finds.
func (k *Reconciler) Release(ctx context.Context, id string) error {
	var rows []unreleasedRow
	err := k.db.Read.WithContext(ctx).Table("orders").Where("released = 0 AND sale_id = ?", id).
		Select("id, status").Limit(releaseBatch).Scan(&rows).Error
	if err != nil || len(rows) == 0 {
		return err
	}
	ended := make([]queue.Ended, len(rows))
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
		ended[i] = queue.Ended{ID: r.ID, State: queue.Cancelled}
		if r.Status == "expired" {
			ended[i].State = queue.Expired
		}
	}
	var stock inventory.Stock
	if err := k.db.Read.WithContext(ctx).Take(&stock, "sale_id = ?", id).Error; err != nil {
		return err
	}
	err = k.lines.Of(id).Release(ctx, ended, stock.Changes)
	if errors.Is(err, queue.ErrNotReady) && k.lineDropped(ctx, id) {
		err = nil // there is nothing to bring the units back to
	}
	if err != nil {
		return err
	}
	return k.markReleased(ctx, ids)
}

// lineDropped reports that a sale was over so long ago that its line has been dropped.
func (k *Reconciler) lineDropped(ctx context.Context, id string) bool {
	var sale inventory.Sale
	if err := k.db.Read.WithContext(ctx).Take(&sale, "id = ?", id).Error; err != nil || !sale.Finished(k.now()) {
		return false
	}
	view, err := k.lines.Of(id).View(ctx)
	return err == nil && !view.Exists
}

// release calls Release. While the line is not ready, a later round does it.
func (k *Reconciler) release(ctx context.Context, id string) error {
	if err := k.Release(ctx, id); !errors.Is(err, queue.ErrNotReady) {
		return err
	}
	return nil
}

func (k *Reconciler) markReleased(ctx context.Context, ids []string) error {
	return k.db.Tx(ctx, func(tx *gorm.DB) error {
		return tx.Table("orders").Where("id IN ?", ids).Update("released", 1).Error
	})
}
