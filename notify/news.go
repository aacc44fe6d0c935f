package notify

import (
	"fmt"

	"gorm.io/gorm"

	"sluice/store"
)

// News is one event of many orders of one sale.
type News struct {
	Event, Sale   string
	At, Due       int64 // when it happened and from when it may be delivered, unix ms
	Orders, Users []string
}

// NewInsert is the statement that News.Insert takes.
func NewInsert(db *store.DB) *store.Bulk {
	return db.NewBulk("outbox", News{}.shared(""), News{}.own())
}

func (n News) shared(channel string) []store.Column {
	return []store.Column{{Name: "event", Texts: []string{n.Event}}, {Name: "channel", Texts: []string{channel}}, {Name: "sale_id", Texts: []string{n.Sale}},
		{Name: "next_at", Ints: []int64{n.Due}}, {Name: "created_at", Ints: []int64{n.At}}}
}

func (n News) own() []store.Column {
	if n.Orders == nil {
		n.Orders, n.Users = []string{}, []string{}
	}
	return []store.Column{{Name: "order_id", Texts: n.Orders}, {Name: "user_id", Texts: n.Users}}
}

// Insert queues a row for each order as the function Insert does.
func (n News) Insert(tx *gorm.DB, by *store.Bulk, channel string) error {
	if _, err := by.Insert(tx, n.shared(channel), n.own()); err != nil {
		return fmt.Errorf("queue %d notifications: %w", len(n.Orders), err)
	}
	return nil
}
