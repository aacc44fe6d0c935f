package api

import "time"

// Sale is a sale as everybody sees it.
type Sale struct {
	ID           string `json:"id"`
	Title        string `json:"title"`
	SKU          string `json:"sku"`
	PriceCents   int64  `json:"price_cents"`
	Currency     string `json:"currency"`
	StockTotal   int64  `json:"stock_total"`
	Remaining    int64  `json:"remaining"`
	PerUserLimit int    `json:"per_user_limit"`
	StartsAt     string `json:"starts_at"`
	EndsAt       string `json:"ends_at"`
	State        string `json:"state"`
	ServerTime   string `json:"server_time"`
}

// SaleList is the list of all sales that are not drafts.
type SaleList struct {
	Sales []Sale `json:"sales"`
}

// AdminSale is a sale as operators see it.
type AdminSale struct {
	Sale
	Cap         int     `json:"cap"` // 0: the configured queue.cap
	AdminState  string  `json:"admin_state"`
	Available   int64   `json:"available"` // in the ledger
	Version     int64   `json:"version"`
	Epoch       int64   `json:"epoch"`
	Line        *Line   `json:"line,omitempty"`
	DrainPerSec float64 `json:"drain_per_second"`
	// InLine says of a change just made whether the line has it; false: it follows by itself.
	InLine *bool `json:"in_line,omitempty"`
}

// AdminSaleList is a page of sales as operators see them.
type AdminSaleList struct {
	Sales      []AdminSale `json:"sales"`
	NextCursor string      `json:"next_cursor,omitempty"`
}

// WithReason is what every change may say about itself.
type WithReason struct {
	Reason string `json:"reason"`
}

// NewSale asks for a sale. Times that are missing are now, and a day later.
type NewSale struct {
	ID           string    `json:"id"`
	Title        string    `json:"title"`
	SKU          string    `json:"sku"`
	Stock        int64     `json:"stock"`
	PriceCents   int64     `json:"price_cents"`
	Currency     string    `json:"currency"`
	PerUserLimit int       `json:"per_user_limit"`
	Cap          int       `json:"cap"`
	StartsAt     time.Time `json:"starts_at,omitzero"`
	EndsAt       time.Time `json:"ends_at,omitzero"`
	Open         bool      `json:"open"`
	WithReason
}

// StockChange adds units to a sale's stock, or takes some away.
type StockChange struct {
	Delta int64 `json:"delta"`
	WithReason
}
