package inventory

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"gorm.io/gorm"
)

// SaleCursor is a place in the list of sales, newest first.
type SaleCursor struct {
	CreatedAt int64 // unix ms
	ID        string
}

// String returns the cursor as clients carry it.
func (c SaleCursor) String() string { return strconv.FormatInt(c.CreatedAt, 10) + "_" + c.ID }

// ParseSaleCursor reads what String wrote.
func ParseSaleCursor(text string) (SaleCursor, bool) {
	ms, id, ok := strings.Cut(text, "_")
	at, err := strconv.ParseInt(ms, 10, 64)
	return SaleCursor{CreatedAt: at, ID: id}, ok && err == nil && at >= 0 && validID(id)
}

// Page returns up to limit sales with their ledgers, newest first; after is nil for the first page. The last result is
// the cursor of the next page, nil on the last.
func (c *SaleStore) Page(ctx context.Context, after *SaleCursor, limit int) ([]Sale, map[string]Stock, *SaleCursor,
	error) {
	var sales []Sale
	stock := make(map[string]Stock, limit)
	err := c.db.Snapshot(ctx, func(tx *gorm.DB) error {
		query := tx.Order("created_at DESC, id").Limit(limit + 1)
		if after != nil {
			query = query.Where("created_at < ? OR (created_at = ? AND id > ?)", after.CreatedAt, after.CreatedAt,
				after.ID)
		}
		if err := query.Find(&sales).Error; err != nil {
			return err
		}
		ids := make([]string, len(sales))
		for i, s := range sales {
			ids[i] = s.ID
		}
		var rows []Stock
		if err := tx.Where("sale_id IN ?", ids).Find(&rows).Error; err != nil {
			return err
		}
		for _, r := range rows {
			stock[r.SaleID] = r
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list sales: %w", err)
	}
	if len(sales) <= limit {
		return sales, stock, nil, nil
	}
	last := sales[limit-1]
	return sales[:limit], stock, &SaleCursor{CreatedAt: last.CreatedAt, ID: last.ID}, nil
}

// List returns every sale with its ledger, newest first.
func (c *SaleStore) List(ctx context.Context) ([]Sale, map[string]Stock, error) {
	var sales []Sale
	var rows []Stock
	err := c.db.Snapshot(ctx, func(tx *gorm.DB) error {
		if err := tx.Order("created_at DESC, id").Find(&sales).Error; err != nil {
			return err
		}
		return tx.Find(&rows).Error
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list sales: %w", err)
	}
	stock := make(map[string]Stock, len(rows))
	for _, r := range rows {
		stock[r.SaleID] = r
	}
	return sales, stock, nil
}
