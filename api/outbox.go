package api

import "sluice/notify/form"

// PaymentAnswer is what a payment provider's callback is answered.
type PaymentAnswer struct {
	OrderID   string `json:"order_id"`
	SaleID    string `json:"sale_id"`
	PaymentID string `json:"payment_id"`
	Status    string `json:"status"`
	Refund    string `json:"refund,omitempty"`
	PaidAt    string `json:"paid_at,omitempty"`
}

// Payment is a payment as operators see it.
type Payment struct {
	PaymentID   string `json:"payment_id"`
	OrderID     string `json:"order_id"`
	SaleID      string `json:"sale_id"`
	AmountCents int64  `json:"amount_cents"`
	Currency    string `json:"currency"`
	Outcome     string `json:"outcome"`
	PaidAt      string `json:"paid_at,omitempty"`
	ReceivedAt  string `json:"received_at"`
}

// PaymentList is a page of payments.
type PaymentList struct {
	Payments   []Payment `json:"payments"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// Notification is a row of the outbox as operators see it. It names no address.
type Notification struct {
	OrderID     string `json:"order_id"`
	Event       string `json:"event"`
	Channel     string `json:"channel"`
	SaleID      string `json:"sale_id"`
	UserID      string `json:"user_id"`
	State       string `json:"state"`
	Attempts    int    `json:"attempts"`
	CreatedAt   string `json:"created_at"`
	DueAt       string `json:"due_at,omitempty"`
	DeliveredAt string `json:"delivered_at,omitempty"`
	OvertakenAt string `json:"overtaken_at,omitempty"`
	LastError   string `json:"last_error,omitempty"`
}

// NotificationList is a page of notifications.
type NotificationList struct {
	Notifications []Notification `json:"notifications"`
	NextCursor    string         `json:"next_cursor,omitempty"`
}

// NotificationRetry names one dead notification, or with all every one of a channel.
type NotificationRetry struct {
	Channel string `json:"channel"`
	OrderID string `json:"order_id"`
	Event   string `json:"event"`
	All     bool   `json:"all"`
	WithReason
}

// Retried says how many notifications are due again.
type Retried struct {
	Retried int64 `json:"retried"`
	More    bool  `json:"more"` // some dead ones are left: repeat the request
}

// OrderEvent is one event of an order, as the event log streams it.
type OrderEvent = form.Entry
