package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// wanted is the order that a request is about, as its client names it.
type wanted struct {
	entry    *inventory.Entry
	id, user string
	request  *gin.Context // may carry a receipt
}

// showOrder answers with the order as it stands; with ?wait= it first waits
// for its status to change from what the client knows.
func (g *Gateway) showOrder(c *gin.Context) {
	w, ok := g.orderOf(c)
	if !ok {
		return
	}
	wait, bad := waitOf(c, g.cfg.MaxWait)
	if bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return
	}
	seen, bad := seenOf(c)
	if bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return
	}
	v, err := g.find(c.Request.Context(), w)
	if err == nil && wait > 0 && !g.isNews(v, seen) {
		v, err = g.awaitChange(c, w, v, wait)
	}
	if err != nil {
		g.refuse(c, err)
		return
	}
	if c.Request.Context().Err() == nil { // who has gone has not heard it
		g.delivered.add(v)
	}
	g.answerOrder(c, v, w.entry.Pace())
}

// orderOf authenticates and reads the path, or answers the request.
func (g *Gateway) orderOf(c *gin.Context) (w wanted, ok bool) {
	if w.user, ok = g.reader(c); !ok {
		return w, false
	}
	if w.entry, ok = g.sale(c); !ok {
		return w, false
	}
	w.id, w.request = c.Param("id"), c
	if len(w.id) > maxOrderID || !api.Printable(w.id) {
		g.refuse(c, order.ErrNotFound)
		return w, false
	}
	return w, true
}

// find returns the owner's order, one that was lost included; order.ErrNotFound otherwise.
func (g *Gateway) find(ctx context.Context, w wanted) (order.View, error) {
	v, err := g.status.get(ctx, w.entry.Sale.ID, w.id, w.user)
	if errors.Is(err, order.ErrNotFound) {
		return g.findLost(ctx, w)
	}
	return v, err
}

// findLost answers for an order that neither store knows. When its receipt or its id proves that it was accepted, it
// was lost. With a receipt, which says what was ordered, it goes back into the line, or is told to have failed when no
// unit is left. Without one, or once the sale's line is gone, it is recorded as failed.
func (g *Gateway) findLost(ctx context.Context, w wanted) (order.View, error) {
	entry := w.entry
	if now, ok := g.SaleCache.Get(entry.Sale.ID); ok {
		entry = now // who has waited may have come before the line was loaded anew
	}
	sale := entry.Sale
	ticket, proven := g.accepted(w)
	if proven {
		g.log.Warn("taking back an order that was lost", "sale", sale.ID, "order", w.id)
		v, err := g.Finder.Readmit(ctx, entry, ticket)
		if !errors.Is(err, queue.ErrNotReady) || !sale.Finished(g.SaleCache.Now()) {
			return v, err
		}
	} else if !g.ids.issued(sale, w.user, w.id) {
		return order.View{}, order.ErrNotFound
	}
	return g.Losses.Record(ctx, sale, ticket)
}

// accepted returns the ticket of a valid receipt. Without one it is as much as the id says, and proven is false.
func (g *Gateway) accepted(w wanted) (t queue.Ticket, proven bool) {
	receipt := cmp.Or(w.request.GetHeader(receiptHeader), w.request.Query("receipt"))
	if g.Receipts != nil {
		if t, err := g.Receipts.Read(w.entry.Sale.ID, w.id, w.user, receipt); err == nil {
			return t, true
		}
	}
	return queue.Ticket{ID: w.id, User: w.user, Units: 1, AdmittedAt: time.UnixMilli(mintedAt(w.id))}, false
}
