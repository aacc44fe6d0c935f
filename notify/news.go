package notify

import (
	"fmt"

	"gorm.io/gorm"

	"sluice/store"
)

// News is one event of many orders of one sale.
type News struct {
	Event, Sale   string
	At            int64 // when it happened, unix ms
	Orders, Users []string
	Sales         []string // each order's own, in place of Sale; for the statement of NewMixedInsert
}

// NewInsert is the statement that News.Insert takes.
func NewInsert(db *store.DB) *store.Bulk {
	return db.NewBulk("outbox", News{}.shared(""), News{}.own())
}

// NewMixedInsert is the statement that News.Insert takes for orders of several sales.
func NewMixedInsert(db *store.DB) *store.Bulk {
	several := News{Sales: []string{}}
	return db.NewBulk("outbox", several.shared(""), several.own())
}

func (n News) shared(channel string) []store.Column {
	shared := []store.Column{{Name: "event", Texts: []string{n.Event}}, {Name: "channel", Texts: []string{channel}},
		{Name: "created_at", Ints: []int64{n.At}}}
	if n.Sales == nil {
		shared = append(shared, store.Column{Name: "sale_id", Texts: []string{n.Sale}})
	}
	return shared
}

func (n News) own() []store.Column {
	if n.Orders == nil {
		n.Orders, n.Users = []string{}, []string{}
	}
	own := []store.Column{{Name: "order_id", Texts: n.Orders}, {Name: "user_id", Texts: n.Users}}
	if n.Sales != nil {
		own = append(own, store.Column{Name: "sale_id", Texts: n.Sales})
	}
	return own
}

// Insert queues a row for each order as the function Insert does.
func (n News) Insert(tx *gorm.DB, by *store.Bulk, channel string) error {
	if _, err := by.Insert(tx, n.shared(channel), n.own()); err != nil {
		return fmt.Errorf("queue %d notifications: %w", len(n.Orders), err)
	}
	return nil
}
