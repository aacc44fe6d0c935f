package inventory

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/store"
)

// Adjustment is a signed change of a sale's stock.
type Adjustment struct {
	Sale   string
	Delta  int64 // units to add, or to remove when negative
	Actor  string
	Reason string // required
	Key    string // the caller's name for this very change, at most 255 bytes; empty: it has none
}

// Errors of repeating an adjustment.
var (
	ErrOtherAdjustment = errors.New("this key came before with another change of stock")
	ErrMaybeAdjusted   = errors.New("the database was lost on the way: whether the stock is changed is not known")
)

// Adjusted is a sale after an adjustment.
type Adjusted struct {
	Sale     Sale
	Stock    Stock
	Repeated bool // the same adjustment had been made before, and was not made again
}

func (a Adjustment) check() error {
	var bad invalid.Error
	if a.Delta == 0 || a.Delta > maxStock || a.Delta < -maxStock {
		bad = append(bad, invalid.Field{Field: "delta", Detail: fmt.Sprintf("must not be 0 and lie between -%d and %d",
			maxStock, maxStock)})
	}
	if !invalid.PlainText(a.Reason, 200) {
		bad = append(bad, invalid.Field{Field: "reason", Detail: "must say why, in 1 to 200 characters"})
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// AdjustStock adds units to a sale's total, or removes them. It returns ErrShort when fewer than that are unsold, an
// invalid.Error when the total would be more than 1,000,000,000. Tickets already in line for removed units will fail
// as sold out. A sale makes the adjustments of one key once, however often they come. For another one under the same
// key it returns ErrOtherAdjustment.
//
// An adjustment whose commit got no answer is asked for once more. Should that fail too, the error is ErrMaybeAdjusted:
// with the same key it can be repeated.
func (c *SaleStore) AdjustStock(ctx context.Context, a Adjustment) (Adjusted, error) {
	if err := a.check(); err != nil {
		return Adjusted{}, err
	}
	if a.Key == "" {
		a.Key = uuid.NewString()
	}
	done, err := c.adjust(ctx, a)
	if store.Unavailable(err) {
		if done, err = c.adjust(context.WithoutCancel(ctx), a); store.Unavailable(err) {
			err = fmt.Errorf("%w: %w", ErrMaybeAdjusted, err)
		}
	}
	if err != nil {
		return Adjusted{}, fmt.Errorf("adjust the stock of %s by %d: %w", a.Sale, a.Delta, err)
	}
	return done, nil
}

// adjust makes the one transaction of an adjustment. Its first lock is the sale's row: of two with one key the second
// finds the first. Its first lock is the sale's row, so that of two with one key the second finds the first.
func (c *SaleStore) adjust(ctx context.Context, a Adjustment) (done Adjusted, err error) {
	now := c.now().UnixMilli()
	err = c.db.Tx(ctx, func(tx *gorm.DB) error {
		done = Adjusted{}
		if done.Sale, err = LockSale(tx, a.Sale); err != nil {
			return err
		}
		// Fulfilment locks only the stock row; reading it under lock keeps before and after true.
		var before Stock
		if err := store.ForUpdate(tx).Take(&before, "sale_id = ?", a.Sale).Error; err != nil {
			return err
		}
		done.Stock = before
		if done.Repeated, err = a.made(tx); done.Repeated || err != nil {
			return err
		}
		if done.Sale.State == Closed {
			return ErrClosed
		}
		done.Stock.Total, done.Stock.Available, done.Stock.Changes = before.Total+a.Delta, before.Available+a.Delta,
			before.Changes+1
		if done.Stock.Available < 0 {
			return ErrShort
		}
		if a.Delta > 0 && done.Stock.Total > maxStock {
			return invalid.Error{{Field: "delta", Detail: fmt.Sprintf("makes the stock %d, and it must be at most %d",
				done.Stock.Total, maxStock)}}
		}
		if err := tx.Model(&Stock{}).Where("sale_id = ?", a.Sale).
			Updates(map[string]any{"total": done.Stock.Total, "available": done.Stock.Available,
				"changes": done.Stock.Changes}).Error; err != nil {
			return err
		}
		done.Sale.Version, done.Sale.UpdatedAt = done.Sale.Version+1, now
		if err := tx.Model(&Sale{}).Where("id = ?", a.Sale).Updates(map[string]any{"version": done.Sale.Version,
			"updated_at": now}).Error; err != nil {
			return err
		}
		if err := addMove(tx, a, now); err != nil {
			return err
		}
		return adminlog.Act{Actor: a.Actor, Action: "stock.adjust", Sale: a.Sale, Target: a.Sale, Reason: a.Reason}.
			Write(tx, c.now(), before, done.Stock)
	})
	return done, err
}

// made reports whether the sale has made this adjustment before.
func (a Adjustment) made(tx *gorm.DB) (bool, error) {
	var found []struct {
		Delta  int64
		Reason string
	}
	if err := tx.Table("stock_moves").Where("sale_id = ? AND request_key = ?", a.Sale, a.Key).Limit(1).Scan(&found).
		Error; err != nil {
		return false, err
	}
	if len(found) == 0 {
		return false, nil
	}
	if found[0].Delta != a.Delta || found[0].Reason != a.Reason {
		return false, ErrOtherAdjustment
	}
	return true, nil
}

// addMove writes down how the stock changed.
func addMove(tx *gorm.DB, a Adjustment, now int64) error {
	row := map[string]any{"sale_id": a.Sale, "delta": a.Delta, "reason": a.Reason, "actor": a.Actor, "created_at": now}
	if a.Key != "" {
		row["request_key"] = a.Key
	}
	return tx.Table("stock_moves").Create(row).Error
}
