package gateway

import (
	"context"

	"sluice/gateway/admission"
	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/order"
)

// What the tests of this package need to see from outside.
const (
	LookEvery     = lookEvery
	StatusTimeout = statusTimeout
	ReceiptHeader = receiptHeader
)

// Found is what one look at an order has found.
type Found = found

// Admitter is what takes orders into lines.
func (g *Gateway) Admitter() *admission.Admitter { return g.admission }

// Status reads one order.
func (g *Gateway) Status(ctx context.Context, sale, id, user string) (order.View, error) {
	return g.status.get(ctx, sale, id, user)
}

// LineReads joins the looks at lines.
func (g *Gateway) LineReads() *coalesce.Coalescer[string, Found] { return g.status.line }

// LedgerReads joins the looks at the database.
func (g *Gateway) LedgerReads() *coalesce.Coalescer[string, Found] { return g.status.ledger }

// Waiting counts the requests that wait for news.
func (g *Gateway) Waiting() int {
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	return g.hub.count
}

// BoundWaiters lets so many requests wait for news.
func (g *Gateway) BoundWaiters(most int) { g.hub.most = most }

// Forget lets go of what is kept for sales that nobody asks for.
func (g *Gateway) Forget() { g.forget() }

// OrderID names an order of a sale.
func OrderID(sale inventory.Sale, user, key string) string {
	return new(orderIDs).next(sale, user, key)
}
