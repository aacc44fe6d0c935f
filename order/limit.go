package order

import (
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"sluice/inventory"
	"sluice/queue"
)

// ErrOverLimit says that a batch would give a user more units than allowed.
var ErrOverLimit = errors.New("a user would hold more than the limit")

// checkBatch returns ErrOverLimit when a user of new orders would end up with more than the limit. Every slot may be
// free all the same: Redis may have forgotten an order of several units. The stock row, locked by now, lets one batch
// of a sale check at a time.
func checkBatch(tx *gorm.DB, sale inventory.Sale, made []queue.Ticket) error {
	if sale.PerUserLimit == 1 || len(made) == 0 {
		return nil
	}
	users := make([]string, len(made))
	for i, t := range made {
		users[i] = t.User
	}
	for some := range slices.Chunk(users, limitUsers) {
		if err := CheckLimit(tx, sale.ID, some); err != nil {
			return err
		}
	}
	return nil
}

// limitUsers keeps one statement within every dialect's bound on parameters.
const limitUsers = 1000

// CheckLimit returns ErrOverLimit when one of the users holds more than the sale allows. It reads the limit anew: it
// may have been raised since the sale cache was refreshed.
func CheckLimit(tx *gorm.DB, sale string, users []string) error {
	var over []string
	err := tx.Table("orders").Where("sale_id = ? AND user_id IN ? AND slot IS NOT NULL", sale, users).
		Group("user_id").Having("SUM(quantity) > (SELECT per_user_limit FROM sales WHERE id = ?)", sale).
		Pluck("user_id", &over).Error
	if err != nil {
		return fmt.Errorf("read what %d users hold of %s: %w", len(users), sale, err)
	}
	if len(over) > 0 {
		return ErrOverLimit
	}
	return nil
}
