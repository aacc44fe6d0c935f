// Package inventory owns sales and their stock. It has the sale store and the ledger, in the database. It has the
// cache that gateways read instead of the stores.
package inventory

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/internal/invalid"
	"sluice/queue"
)

// The states an operator puts a sale into. Whether an open sale can be bought
// from also depends on its window.
const (
	Draft  = "draft"
	Open   = "open"
	Paused = "paused"
	Closed = "closed"
)

// Errors of sale store, ledger and reconciler.
var (
	ErrNoSale = errors.New("no such sale")
	ErrExists = errors.New("a sale with this id exists already")
	ErrShort  = errors.New("the ledger has fewer units available")
	ErrClosed = errors.New("a closed sale cannot be changed")
	ErrBusy   = errors.New("another instance is rebuilding this line")
	ErrStale  = errors.New("the line was loaded anew after these tickets had been claimed")
	ErrBehind = errors.New("the database lacks changes that the line knows of: it came back without its last commits")
)

// Sale is one SKU sold at one price in one window. Times in the row are unix
// milliseconds.
type Sale struct {
	ID           string `gorm:"primaryKey"`
	Title        string
	SKU          string `gorm:"column:sku"`
	PriceCents   int64
	Currency     string
	PerUserLimit int
	Cap          int // 0: the configured queue.cap
	State        string
	StartsAt     int64
	EndsAt       int64
	Epoch        int64
	Version      int64
	RebuildUntil int64
	IDKey        string `json:"-"` // signs the ids of its orders; empty in sales from before ids were signed
	CreatedAt    int64  `gorm:"autoCreateTime:false"`
	UpdatedAt    int64  `gorm:"autoUpdateTime:false"`
}

// TableName names the table for GORM.
func (Sale) TableName() string { return "sales" }

// Starts returns the first instant at which something is sold.
func (s Sale) Starts() time.Time { return time.UnixMilli(s.StartsAt).UTC() }

// Ends returns the first instant at which nothing is sold any more.
func (s Sale) Ends() time.Time { return time.UnixMilli(s.EndsAt).UTC() }

// overAt returns when the sale stops selling, as far as is known now.
func (s Sale) overAt() time.Time {
	if s.State == Closed {
		return time.UnixMilli(min(s.UpdatedAt, s.EndsAt))
	}
	return s.Ends()
}

// Finished reports whether even the line of a sale that is over is no longer needed.
func (s Sale) Finished(now time.Time) bool { return now.After(s.overAt().Add(LineKept)) }

// Over reports whether the sale sells nothing any more.
func (s Sale) Over(now time.Time) bool { return !now.Before(s.overAt()) }

// StateAt returns the state that a shopper sees: scheduled, open, paused, ended or closed.
func (s Sale) StateAt(now time.Time) string {
	switch {
	case s.State == Closed:
		return "closed"
	case !now.Before(s.Ends()):
		return "ended"
	case s.State == Draft || now.Before(s.Starts()):
		return "scheduled"
	}
	return s.State
}

// Settings returns what the line has to know.
func (s Sale) Settings(total int64, lineCap int) queue.Settings {
	return queue.Settings{Epoch: s.Epoch, Version: s.Version, State: s.State, StartsAt: s.Starts(), EndsAt: s.Ends(),
		Cap: lineCap, Limit: s.PerUserLimit, Total: total}
}

// saleImage is a sale as the admin log shows it.
type saleImage struct {
	State        string    `json:"state"`
	Title        string    `json:"title"`
	SKU          string    `json:"sku"`
	PriceCents   int64     `json:"price_cents"`
	Currency     string    `json:"currency"`
	PerUserLimit int       `json:"per_user_limit"`
	Cap          int       `json:"cap"`
	StartsAt     time.Time `json:"starts_at"`
	EndsAt       time.Time `json:"ends_at"`
	Version      int64     `json:"version"`
	Stock        *int64    `json:"stock,omitempty"` // of a new sale
}

func (s Sale) image() saleImage {
	return saleImage{State: s.State, Title: s.Title, SKU: s.SKU, PriceCents: s.PriceCents, Currency: s.Currency,
		PerUserLimit: s.PerUserLimit,
		Cap:          s.Cap, StartsAt: s.Starts(), EndsAt: s.Ends(), Version: s.Version}
}

// Stock is the ledger of one sale: Total = Available + units of live orders.
type Stock struct {
	SaleID    string `gorm:"primaryKey" json:"-"`
	Total     int64  `json:"total"`
	Available int64  `json:"available"`
	// how often it has changed: grows by one with each, so that a database that lost some is noticed
	Changes int64 `json:"-"`
}

// TableName names the table for GORM.
func (Stock) TableName() string { return "stock" }

// LineKept is how long a finished sale's line still answers before it is dropped.
const LineKept = time.Hour

// Bounds of a sale.
const (
	maxStock = 1_000_000_000
	maxPrice = 1_000_000_000_000
	maxLimit = 1000
)

// NewSale describes a sale to create.
type NewSale struct {
	ID, Title, SKU string
	Stock          int64
	PriceCents     int64
	Currency       string
	PerUserLimit   int
	Cap            int
	StartsAt       time.Time
	EndsAt         time.Time
	Open           bool
	Reason         string // for the admin log; may be empty
}

func (n NewSale) validate() error {
	var bad invalid.Error
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			bad = append(bad, invalid.Field{Field: field, Detail: fmt.Sprintf(format, args...)})
		}
	}
	check(validID(n.ID), "id", "must be 1 to 64 letters, digits, '-' or '_', starting with a letter or digit")
	check(invalid.PlainText(n.Title, 200), "title", "must be 1 to 200 characters without control characters")
	check(invalid.PlainText(n.SKU, 64), "sku", "must be 1 to 64 characters without control characters")
	check(n.Stock >= 0 && n.Stock <= maxStock, "stock", "must be between 0 and %d", maxStock)
	check(n.PriceCents >= 0 && n.PriceCents <= maxPrice, "price_cents", "must be between 0 and %d", maxPrice)
	check(validCurrency(n.Currency), "currency", "must be a code of three capital letters, such as CNY")
	bad = append(bad, checkLimits(n.PerUserLimit, n.Cap)...)
	bad = append(bad, checkWindow(n.StartsAt, n.EndsAt)...)
	check(n.Reason == "" || invalid.PlainText(n.Reason, 200), "reason",
		"must be at most 200 characters without control characters")
	if len(bad) > 0 {
		return bad
	}
	return nil
}

func checkLimits(perUser, lineCap int) (bad invalid.Error) {
	if perUser < 1 || perUser > maxLimit {
		bad = append(bad, invalid.Field{Field: "per_user_limit",
			Detail: fmt.Sprintf("must be between 1 and %d", maxLimit)})
	}
	if lineCap < 0 || lineCap > queue.MaxCap {
		bad = append(bad, invalid.Field{Field: "cap", Detail: fmt.Sprintf(
			"must be between 1 and %d, or 0 for the configured queue.cap", queue.MaxCap)})
	}
	return bad
}

func checkWindow(starts, ends time.Time) invalid.Error {
	if starts.IsZero() || !ends.After(starts) {
		return invalid.Error{{Field: "ends_at", Detail: "must be later than starts_at"}}
	}
	return nil
}

func validID(id string) bool {
	for i, r := range id {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 64
}

func validCurrency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}
