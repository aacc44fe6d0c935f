package form

import (
	"strconv"
	"time"

	"sluice/notify"
)

// Entry is an order's event as the event log shows it: everything side by side.
type Entry struct {
	ID      string `json:"id"` // the same in every repeat of this event
	Type    string `json:"type"`
	Version int    `json:"version,omitempty"`
	OrderID string `json:"order_id"`
	SaleID  string `json:"sale_id"`
	UserID  string `json:"user_id"`
	At      string `json:"at,omitempty"`
	*Facts         // nil: they were not known, or the entry is from before version 1
}

// Fields returns an event as the fields of a Redis stream, names and values in turn. What is not known is left out.
func Fields(m notify.Message, e Event) []any {
	fields := []any{"id", m.ID(), "order", m.OrderID, "sale", m.SaleID, "user", m.UserID, "event", m.Event,
		"at", m.CreatedAt.UnixMilli()}
	if e.Data.Facts == nil {
		return fields
	}
	f := e.Data.Facts
	fields = append(fields, "version", e.Version, "status", f.Status, "quantity", f.Quantity,
		"price_cents", f.PriceCents, "currency", f.Currency)
	for _, t := range f.texts() {
		if *t.value != "" {
			fields = append(fields, t.name, *t.value)
		}
	}
	return fields
}

// text is a field that an event may lack.
type text struct {
	name  string
	value *string
}

func (f *Facts) texts() []text {
	return []text{{"reason", &f.Reason}, {"refund", &f.Refund}, {"admitted_at", &f.AdmittedAt},
		{"confirmed_at", &f.ConfirmedAt}, {"pay_by", &f.PayBy}, {"paid_at", &f.PaidAt}, {"ended_at", &f.EndedAt}}
}

// ReadEntry reads the fields of an entry of a Redis stream. One of somebody else's may lack any of them.
func ReadEntry(fields map[string]any) Entry {
	field := func(name string) string {
		value, _ := fields[name].(string)
		return value
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(field(name), 10, 64)
		return n
	}
	e := Entry{ID: field("id"), Type: field("event"), Version: int(number("version")), OrderID: field("order"),
		SaleID: field("sale"), UserID: field("user")}
	if ms, err := strconv.ParseInt(field("at"), 10, 64); err == nil {
		e.At = FormatTime(time.UnixMilli(ms))
	}
	if e.Version == 0 {
		return e
	}
	e.Facts = &Facts{Status: field("status"), Quantity: int(number("quantity")), PriceCents: number("price_cents"),
		Currency: field("currency")}
	for _, t := range e.Facts.texts() {
		*t.value = field(t.name)
	}
	return e
}
