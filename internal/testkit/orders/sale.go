package orders

import (
	"time"

	"github.com/stretchr/testify/require"

	"sluice/inventory"
)

// OpenSale opens one more sale.
func (w *World) OpenSale(id string, stock int64, limit int) {
	w.T.Helper()
	w.Create(NewSale(id, stock, limit))
	w.CatchUp()
}

// Open opens the sale of a World that was empty.
func (w *World) Open(stock int64, limit int) {
	w.T.Helper()
	w.OpenSale(Sale, stock, limit)
}

// OpenAroundBroken opens the sale among others whose lines cannot be read, before and behind it in every order.
func (w *World) OpenAroundBroken(stock int64) {
	w.T.Helper()
	for _, id := range []string{"a-broken", "sale-broken", Sale, "z-broken"} {
		w.Create(NewSale(id, stock, 1))
		w.Clock.Advance(time.Second)
	}
	w.CatchUp()
	for _, id := range []string{"a-broken", "sale-broken", "z-broken"} {
		w.BreakLine(id, "wait")
	}
}

// NewSale returns a sale that is open for an hour.
func NewSale(id string, stock int64, limit int) inventory.NewSale {
	now := time.Now()
	return inventory.NewSale{ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock, PriceCents: 9900, Currency: "CNY",
		PerUserLimit: limit, StartsAt: now.Add(-time.Minute), EndsAt: now.Add(time.Hour), Open: true}
}

// Create creates a sale, whose line nobody has loaded yet.
func (w *World) Create(n inventory.NewSale) inventory.Sale {
	w.T.Helper()
	sale, err := w.Sales.Create(w.Ctx, n, "test")
	require.NoError(w.T, err)
	return sale
}
