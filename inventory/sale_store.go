package inventory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/store"
)

// SaleStore creates and changes sales. Every change is one transaction that also writes the admin
// log and raises the sale's version. Reconcilers bring it into the line within a second.
type SaleStore struct {
	db  *store.DB
	now func() time.Time
}

// NewSaleStore returns the sales kept in db.
func NewSaleStore(db *store.DB, now func() time.Time) *SaleStore { return &SaleStore{db: db, now: now} }

// Create adds a sale with its stock. It returns an invalid.Error or ErrExists.
func (c *SaleStore) Create(ctx context.Context, n NewSale, actor string) (Sale, error) {
	if err := n.validate(); err != nil {
		return Sale{}, err
	}
	now := c.now().UnixMilli()
	sale := Sale{ID: n.ID, Title: n.Title, SKU: n.SKU, PriceCents: n.PriceCents, Currency: n.Currency,
		PerUserLimit: n.PerUserLimit,
		Cap:          n.Cap, State: Draft, StartsAt: n.StartsAt.UnixMilli(), EndsAt: n.EndsAt.UnixMilli(), Version: 1,
		IDKey: rand.Text(), CreatedAt: now, UpdatedAt: now}
	if n.Open {
		sale.State = Open
	}
	err := c.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Create(&sale).Error; err != nil {
			return err
		}
		if err := tx.Create(&Stock{SaleID: n.ID, Total: n.Stock, Available: n.Stock}).Error; err != nil {
			return err
		}
		if err := addMove(tx, Adjustment{Sale: n.ID, Delta: n.Stock, Actor: actor, Reason: "created"},
			now); err != nil {
			return err
		}
		image := sale.image()
		image.Stock = &n.Stock
		act := adminlog.Act{Actor: actor, Action: "sale.create", Sale: n.ID, Target: n.ID, Reason: n.Reason}
		return act.Write(tx, c.now(), nil, image)
	})
	if store.Duplicate(err) {
		return Sale{}, fmt.Errorf("%s: %w", n.ID, ErrExists)
	}
	if err != nil {
		return Sale{}, fmt.Errorf("create sale %s: %w", n.ID, err)
	}
	return sale, nil
}

// SetState opens, pauses or closes a sale, and returns it as it is then. Closing is final.
func (c *SaleStore) SetState(ctx context.Context, id, state, actor, reason string) (Sale, Stock, error) {
	if state != Open && state != Paused && state != Closed {
		return Sale{}, Stock{}, invalid.Error{{Field: "state", Detail: "must be open, paused or closed"}}
	}
	return c.change(ctx, changeOf(id, "sale."+state, actor, reason), func(s *Sale) error {
		s.State = state
		return nil
	})
}

// Change lists what to change of a sale; nil leaves a value as it is.
type Change struct {
	Cap          *int       `json:"cap"`
	PerUserLimit *int       `json:"per_user_limit"`
	StartsAt     *time.Time `json:"starts_at"`
	EndsAt       *time.Time `json:"ends_at"`
}

// Update changes a sale's cap, limit or window, and returns it as it is then.
func (c *SaleStore) Update(ctx context.Context, id string, ch Change, actor, reason string) (Sale, Stock, error) {
	return c.change(ctx, changeOf(id, "sale.update", actor, reason), func(s *Sale) error {
		if ch.Cap != nil {
			s.Cap = *ch.Cap
		}
		if ch.PerUserLimit != nil {
			if *ch.PerUserLimit < s.PerUserLimit {
				return invalid.Error{{Field: "per_user_limit",
					Detail: fmt.Sprintf("can only be raised from %d: shoppers may hold that many already",
						s.PerUserLimit)}}
			}
			s.PerUserLimit = *ch.PerUserLimit
		}
		if ch.StartsAt != nil {
			s.StartsAt = ch.StartsAt.UnixMilli()
		}
		if ch.EndsAt != nil {
			s.EndsAt = ch.EndsAt.UnixMilli()
		}
		if bad := append(checkLimits(s.PerUserLimit, s.Cap), checkWindow(s.Starts(), s.Ends())...); len(bad) > 0 {
			return bad
		}
		return nil
	})
}

// changeOf returns the entry of the admin log for a change of a sale.
func changeOf(sale, action, actor, reason string) adminlog.Act {
	return adminlog.Act{Actor: actor, Action: action, Sale: sale, Target: sale, Reason: reason}
}

// change edits the sale that act names and logs act with it, in one transaction.
func (c *SaleStore) change(ctx context.Context, act adminlog.Act, edit func(*Sale) error) (after Sale, stock Stock,
	err error) {
	id := act.Sale
	if err := act.Check(); err != nil {
		return Sale{}, Stock{}, err
	}
	now := c.now().UnixMilli()
	err = c.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := LockSale(tx, id)
		if err != nil {
			return err
		}
		if before.State == Closed {
			return ErrClosed
		}
		after = before
		if err := edit(&after); err != nil {
			return err
		}
		after.Version++
		after.UpdatedAt = now
		columns := map[string]any{"state": after.State, "cap": after.Cap, "per_user_limit": after.PerUserLimit,
			"starts_at": after.StartsAt, "ends_at": after.EndsAt, "version": after.Version, "updated_at": now}
		if err := tx.Model(&Sale{}).Where("id = ?", id).Updates(columns).Error; err != nil {
			return err
		}
		if err := tx.Take(&stock, "sale_id = ?", id).Error; err != nil {
			return err
		}
		return act.Write(tx, c.now(), before.image(), after.image())
	})
	if err != nil {
		return Sale{}, Stock{}, fmt.Errorf("change sale %s: %w", id, err)
	}
	return after, stock, nil
}

// Get returns one sale and its ledger, or ErrNoSale.
func (c *SaleStore) Get(ctx context.Context, id string) (Sale, Stock, error) {
	var sale Sale
	var stock Stock
	err := c.db.Snapshot(ctx, func(tx *gorm.DB) error {
		if err := tx.Take(&sale, "id = ?", id).Error; err != nil {
			return err
		}
		return tx.Take(&stock, "sale_id = ?", id).Error
	})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Sale{}, Stock{}, fmt.Errorf("%s: %w", id, ErrNoSale)
	}
	return sale, stock, err
}

// LockSale reads a sale and locks its row until the transaction ends. It returns ErrNoSale when there is none.
func LockSale(tx *gorm.DB, id string) (Sale, error) {
	var sale Sale
	err := store.ForUpdate(tx).Take(&sale, "id = ?", id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return sale, ErrNoSale
	}
	return sale, err
}
