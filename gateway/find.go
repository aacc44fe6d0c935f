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

// orderRequest names the order that a request is about.
type orderRequest struct {
	entry    *inventory.Entry
	id, user string
	request  *gin.Context // may have a receipt
}

// showOrder answers with an order. With ?wait= it first waits until the status differs from the one that the client
// knows.
func (g *Gateway) showOrder(c *gin.Context) {
	w, ok := g.readOrderRequest(c)
	if !ok {
		return
	}
	wait, bad := parseWait(c, g.cfg.MaxWait)
	if bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return
	}
	seen, bad := parseSeen(c)
	if bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return
	}
	v, err := g.find(c.Request.Context(), w)
	if err == nil && wait > 0 && !g.isChange(v, seen) {
		v, err = g.awaitChange(c, w, v, wait)
	}
	if err != nil {
		g.refuse(c, err)
		return
	}
	if c.Request.Context().Err() == nil { // otherwise the client may not have got the answer
		g.delivered.add(v)
	}
	g.answerOrder(c, v, w.entry.Drain())
}

// readOrderRequest authenticates the request and reads its path, or answers it with an error.
func (g *Gateway) readOrderRequest(c *gin.Context) (w orderRequest, ok bool) {
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

// find returns the owner's order, even a lost one, or order.ErrNotFound.
func (g *Gateway) find(ctx context.Context, w orderRequest) (order.View, error) {
	v, err := g.status.get(ctx, w.entry.Sale.ID, w.id, w.user)
	if errors.Is(err, order.ErrNotFound) {
		return g.findLost(ctx, w)
	}
	return v, err
}

// findLost handles an order that neither store knows. If its receipt or id proves that it was accepted, it was lost.
// With a receipt it is readmitted to the line, or fails when no unit is left. Without one, or without the sale's line,
// it is recorded as failed.
func (g *Gateway) findLost(ctx context.Context, w orderRequest) (order.View, error) {
	entry := w.entry
	if now, ok := g.SaleCache.Get(entry.Sale.ID); ok {
		entry = now // the line may have been loaded anew during a wait
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

// accepted returns the ticket of a valid receipt. Without one it returns what the id says, and proven is false.
func (g *Gateway) accepted(w orderRequest) (t queue.Ticket, proven bool) {
	receipt := cmp.Or(w.request.GetHeader(receiptHeader), w.request.Query("receipt"))
	if g.Receipts != nil {
		if t, err := g.Receipts.Read(w.entry.Sale.ID, w.id, w.user, receipt); err == nil {
			return t, true
		}
	}
	return queue.Ticket{ID: w.id, User: w.user, Units: 1, AdmittedAt: time.UnixMilli(mintedAt(w.id))}, false
}
