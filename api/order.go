package api

import (
	"sluice/inventory"
	"sluice/order"
)

// RefundRequired is what a provider and an order's owner read when money must go back.
const RefundRequired = "required"

// Links are the addresses of an order.
type Links struct {
	Self   string `json:"self"`
	Events string `json:"events"`
}

// Order is an order as its owner sees it.
type Order struct {
	OrderID     string `json:"order_id"`
	SaleID      string `json:"sale_id"`
	Status      string `json:"status"`
	Quantity    int    `json:"quantity"`
	Reason      string `json:"reason,omitempty"`
	Position    *int64 `json:"position,omitempty"`
	ETASeconds  *int64 `json:"eta_seconds,omitempty"`
	AdmittedAt  string `json:"admitted_at,omitempty"`
	ConfirmedAt string `json:"confirmed_at,omitempty"`
	EndedAt     string `json:"ended_at,omitempty"`
	PayBy       string `json:"pay_by,omitempty"`
	PaidAt      string `json:"paid_at,omitempty"`
	Refund      string `json:"refund,omitempty"`
	PriceCents  int64  `json:"price_cents"`
	Currency    string `json:"currency"`
	Links       Links  `json:"links"`
}

// OrderOf shows an order of a line that drains at this pace.
func OrderOf(v order.View, pace inventory.Drain) Order {
	b := Order{
		OrderID: v.ID, SaleID: v.SaleID, Status: v.Status, Quantity: v.Quantity, Reason: v.Reason,
		PriceCents: v.PriceCents, Currency: v.Currency,
		AdmittedAt: FormatTime(v.AdmittedAt), ConfirmedAt: FormatTime(v.ConfirmedAt), EndedAt: FormatTime(v.EndedAt),
		PayBy: FormatTime(v.PayBy), PaidAt: FormatTime(v.PaidAt),
	}
	b.Links.Self = "/v1/sales/" + v.SaleID + "/orders/" + v.ID
	b.Links.Events = b.Links.Self + "/events"
	if v.Refund {
		b.Refund = RefundRequired
	}
	if !v.LeftLine() {
		position, eta := v.Position, pace.ETA(v.Position)
		b.Position, b.ETASeconds = &position, &eta
	}
	return b
}

// Unread says what a list of one user's orders leaves out.
type Unread struct {
	UnreadSales []string `json:"unread_sales,omitempty"` // orders that still wait in their lines are missing
}

// OrderList is a page of a user's own orders.
type OrderList struct {
	Orders     []Order `json:"orders"`
	NextCursor string  `json:"next_cursor,omitempty"`
	Unread
}

// AdminOrder adds whose order it is.
type AdminOrder struct {
	Order
	User string `json:"user"`
}

// AdminOrderList is a page of orders as operators see them.
type AdminOrderList struct {
	Orders     []AdminOrder `json:"orders"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// Step is one step of an order's way.
type Step struct {
	At         string  `json:"at"`
	Step       string  `json:"step"`
	DurationMS float64 `json:"duration_ms,omitempty"`
	Attempt    int     `json:"attempt,omitempty"`
	Instance   string  `json:"instance,omitempty"`
	Actor      string  `json:"actor,omitempty"`
	Reason     string  `json:"reason,omitempty"`
}

// Timeline is what happened to one order.
type Timeline struct {
	Order AdminOrder `json:"order"`
	Steps []Step     `json:"steps"`
}

// TimelineList is a page of what happened to the orders of one user.
type TimelineList struct {
	Timelines  []Timeline `json:"timelines"`
	NextCursor string     `json:"next_cursor,omitempty"`
	Unread
}
