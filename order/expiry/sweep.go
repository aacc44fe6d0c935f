package expiry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/apart"
	"sluice/order"
)

// Sweep ends what is long overdue by the database's own word: orders whose deadline Redis forgot.
func (e *Expirer) Sweep(ctx context.Context) error { return e.sweep(ctx, apart.New(salesAtOnce, 0)) }

// sweep gives a turn to each sale that has such orders. Where a page is full of sales that cannot be served, it goes on
// with the others.
func (e *Expirer) sweep(ctx context.Context, in *apart.Rounds) error {
	now := e.now()
	var mu sync.Mutex
	var failed []error
	done := map[string]bool{}
	var unserved []string
	for range sweepPages {
		forgotten, full, err := e.findForgotten(ctx, now, unserved)
		if err != nil {
			return err
		}
		sales := slices.Sorted(maps.Keys(forgotten))
		in.Round(ctx, sales, func(ctx context.Context, sale string) error {
			if err := e.expire(ctx, sale, forgotten[sale], now); err != nil {
				return fmt.Errorf("expire forgotten orders of %s: %w", sale, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done[sale] = true
			return nil
		}, func(sale string, err error) {
			e.noteFault(ctx, sale, err)
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
		mu.Lock()
		undone := slices.DeleteFunc(sales, func(sale string) bool { return done[sale] })
		mu.Unlock()
		if unserved = append(unserved, undone...); !full || len(undone) == 0 {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(failed...)
}

// findForgotten returns the orders that are long overdue, by sale. It leaves out some sales; full says that there may
// be more. The index of the query holds unpaid orders only.
func (e *Expirer) findForgotten(ctx context.Context, now time.Time, without []string) (
	ids map[string][]string, full bool, err error) {
	query := e.db.Read.WithContext(ctx).Select("id", "sale_id").
		Where("status = 'confirmed' AND pay_by > 0 AND pay_by <= ?", now.Add(-sweepGrace).UnixMilli())
	if len(without) > 0 {
		query = query.Where("sale_id NOT IN ?", without)
	}
	var rows []order.Row
	if err := query.Order("pay_by").Limit(batchSize).Find(&rows).Error; err != nil {
		return nil, false, fmt.Errorf("look for overdue orders: %w", err)
	}
	ids = make(map[string][]string)
	for _, r := range rows {
		ids[r.SaleID] = append(ids[r.SaleID], r.ID)
	}
	return ids, len(rows) == batchSize, nil
}
