package gateway

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/server"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/queue"
)

// maxOrderID bounds the length of an order id.
const maxOrderID = 64

// user authenticates the request, or answers it with an error. Only failures count against the address.
func (g *Gateway) user(c *gin.Context) (string, bool) {
	user, err := g.Auth.User(c.Request)
	if err == nil {
		return user, true
	}
	if d := g.Limiter.AllowAnonymous(c.Param("sale"), c.ClientIP()); !d.OK {
		api.WriteProblem(c, limited(d))
		return "", false
	}
	api.WriteProblem(c, server.Unauthorized(err))
	return "", false
}

// reader authenticates a request about earlier orders and applies its limit, or answers it with an error.
func (g *Gateway) reader(c *gin.Context) (string, bool) {
	user, ok := g.user(c)
	if !ok {
		return "", false
	}
	if d := g.Limiter.AllowRead(c.Param("sale"), user); !d.OK {
		api.WriteProblem(c, limited(d))
		return "", false
	}
	return user, true
}

// sale returns the path's sale from the sale cache, or answers the request with an error.
func (g *Gateway) sale(c *gin.Context) (*inventory.Entry, bool) {
	if id := c.Param("sale"); queue.ValidSaleID(id) {
		if e, ok := g.SaleCache.Get(id); ok {
			return e, true
		}
	}
	api.WriteProblem(c, g.problemOf(inventory.ErrNoSale))
	return nil, false
}

// allow applies the limits for placing orders. The user's own comes before the global one, so that one user does not
// use up the others' limit.
func (g *Gateway) allow(c *gin.Context, user string) bool {
	sale := c.Param("sale")
	d := g.Limiter.AllowUser(sale, user)
	if own := d; own.OK {
		d = g.Limiter.AllowTotal(c.Request.Context(), sale)
		if !d.OK { // after the Retry-After the user's own limit must let them pass, too
			d.RetryAfter = max(d.RetryAfter, own.Next)
		}
	}
	if !d.OK {
		api.WriteProblem(c, limited(d))
	}
	return d.OK
}

// placeOrder answers 202 when the ticket is in Redis, or a refusal.
func (g *Gateway) placeOrder(c *gin.Context) {
	g.tryOrder(c)
	if code := api.RefusalOf(c); code != "" {
		g.admission.CountRefusal(c.Param("sale"), code)
	}
}

func (g *Gateway) tryOrder(c *gin.Context) {
	since := g.now()
	user, ok := g.user(c)
	if !ok || !g.allow(c, user) {
		return
	}
	entry, ok := g.sale(c)
	if !ok {
		return
	}
	if g.draining.Load() {
		api.WriteProblem(c, g.problemOf(queue.ErrNotReady))
		return
	}
	if g.closed.Load() {
		g.refuse(c, queue.ErrPaused)
		return
	}
	body, key, problem := g.readOrder(c.Request, entry.Sale)
	if problem != nil {
		api.WriteProblem(c, *problem)
		return
	}
	if err := g.admission.Refusal(entry.Sale, user); err != nil {
		g.refuse(c, err)
		return
	}
	request := queue.Request{ID: g.ids.next(entry.Sale, user, key), User: user, Units: body.Quantity,
		Fingerprint: Fingerprint(body),
		Email:       body.Email, Phone: body.Phone, Locale: cmp.Or(body.Locale,
			api.LocaleOf(c.GetHeader("Accept-Language"), g.cfg.Locale))}
	admit := g.admission.Admit
	if key != "" {
		admit = g.admission.AdmitKeyed
	}
	admitted, err := admit(c.Request.Context(), entry.Sale.ID, request)
	if err != nil {
		g.refuse(c, err)
		return
	}
	if g.Admitted != nil && !admitted.Replayed {
		g.Admitted(c.Request, entry.Sale.ID, admitted.Ticket, since)
	}
	g.admitted(c, entry.Sale, admitted)
}

func (g *Gateway) readOrder(r *http.Request, sale inventory.Sale) (body api.OrderRequest, key string,
	problem *api.Problem) {
	if key, problem = api.IdempotencyKey(r.Header); problem != nil {
		return body, key, problem
	}
	raw, problem := api.ReadBody(r)
	if problem != nil {
		return body, key, problem
	}
	body, bad := api.DecodeOrderIn(g.Phones, raw)
	if len(bad) == 0 && body.Quantity > sale.PerUserLimit {
		bad = append(bad, api.Field("quantity", "must be at most "+strconv.Itoa(sale.PerUserLimit)+
			", the limit per person in this sale"))
	}
	if len(bad) > 0 {
		p := api.InvalidRequest(bad...)
		return body, key, &p
	}
	return body, key, nil
}

// lineWait returns about how long a line takes to lose half of its tickets, at most 30 s. It is the Retry-After of a
// full line.
func (g *Gateway) lineWait(sale string) time.Duration {
	entry, ok := g.SaleCache.Get(sale)
	if !ok {
		return 0
	}
	seconds := float64(entry.View().Waiting) / entry.Rate() / 2
	return min(entry.Stopped()+time.Duration(seconds*float64(time.Second)), 30*time.Second)
}

// cancelOrder cancels the owner's unpaid order.
func (g *Gateway) cancelOrder(c *gin.Context) {
	w, ok := g.readOrderRequest(c)
	if !ok {
		return
	}
	ctx, sale := c.Request.Context(), w.entry.Sale.ID
	cancelled := g.Canceller.Cancel(ctx, sale, w.id, w.user)
	if errors.Is(cancelled, order.ErrNotFound) {
		// An order that Redis lost is readmitted by its receipt, to be cancelled.
		if _, err := g.find(ctx, w); err == nil {
			cancelled = g.Canceller.Cancel(ctx, sale, w.id, w.user)
		}
	}
	if cancelled != nil && !errors.Is(cancelled, order.ErrNotFound) {
		g.refuse(c, cancelled)
		return
	}
	// A ticket that was cancelled in the line earlier may have no row yet.
	v, err := g.status.get(ctx, sale, w.id, w.user)
	if err == nil && v.Status != order.Cancelled {
		err = cancelled
	}
	if err != nil {
		g.refuse(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, api.OrderOf(v, w.entry.Drain()))
}

// listOrders answers with a page of the user's own orders, newest first.
func (g *Gateway) listOrders(c *gin.Context) {
	user, ok := g.reader(c)
	if !ok {
		return
	}
	limit, bad := api.PageSize(c)
	after, bad := api.Cursor(c, lookup.ParseCursor, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	page, err := g.Finder.ListByUser(c.Request.Context(), user, after, limit)
	if err != nil {
		g.refuse(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, g.listBody(page))
}

func (g *Gateway) listBody(page lookup.Page) api.OrderList {
	list := api.OrderList{Orders: make([]api.Order, len(page.Orders)), Unread: api.Unread{UnreadSales: page.Unread}}
	for i, v := range page.Orders {
		drain := inventory.Drain{PerSecond: inventory.FirstDrainRate}
		if e, ok := g.SaleCache.Get(v.SaleID); ok {
			drain = e.Drain()
		}
		list.Orders[i] = api.OrderOf(v, drain)
	}
	if page.Next != nil {
		list.NextCursor = page.Next.String()
	}
	return list
}
