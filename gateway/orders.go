package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// timeFormat is RFC 3339 in UTC with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// maxOrderID bounds what is looked up as an order id.
const maxOrderID = 64

type linksBody struct {
	Self   string `json:"self"`
	Events string `json:"events"`
}

// orderBody is an order as its owner sees it.
type orderBody struct {
	OrderID     string    `json:"order_id"`
	SaleID      string    `json:"sale_id"`
	Status      string    `json:"status"`
	Quantity    int       `json:"quantity"`
	Reason      string    `json:"reason,omitempty"`
	Position    *int64    `json:"position,omitempty"`
	ETASeconds  *int64    `json:"eta_seconds,omitempty"`
	AdmittedAt  string    `json:"admitted_at,omitempty"`
	ConfirmedAt string    `json:"confirmed_at,omitempty"`
	EndedAt     string    `json:"ended_at,omitempty"`
	PayBy       string    `json:"pay_by,omitempty"`
	PaidAt      string    `json:"paid_at,omitempty"`
	Refund      string    `json:"refund,omitempty"`
	PriceCents  int64     `json:"price_cents"`
	Currency    string    `json:"currency"`
	Links       linksBody `json:"links"`
}

func linksOf(sale, id string) linksBody {
	self := "/v1/sales/" + sale + "/orders/" + id
	return linksBody{Self: self, Events: self + "/events"}
}

// bodyOf shows an order of a line that drains at this pace.
func bodyOf(v order.View, pace inventory.Pace) orderBody {
	b := orderBody{OrderID: v.ID, SaleID: v.SaleID, Status: v.Status, Quantity: v.Quantity, Reason: v.Reason, PriceCents: v.PriceCents,
		Currency: v.Currency, AdmittedAt: formatTime(v.AdmittedAt), ConfirmedAt: formatTime(v.ConfirmedAt), EndedAt: formatTime(v.EndedAt),
		PayBy: formatTime(v.PayBy), PaidAt: formatTime(v.PaidAt),
		Links: linksOf(v.SaleID, v.ID)}
	if v.Refund {
		b.Refund = refundRequired
	}
	if !v.Settled() {
		position, eta := v.Position, pace.ETA(v.Position)
		b.Position, b.ETASeconds = &position, &eta
	}
	return b
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// user authenticates the request or answers it. What fails to authenticate
// counts against its address; valid users never do.
func (g *Gateway) user(c *gin.Context) (string, bool) {
	user, err := g.Auth.User(c.Request)
	if err == nil {
		return user, true
	}
	if d := g.Limiter.AllowAnonymous(c.Param("sale"), c.ClientIP()); !d.OK {
		WriteProblem(c, limited(d))
		return "", false
	}
	WriteProblem(c, UnauthorizedProblem(err))
	return "", false
}

// reader authenticates a request about orders that were placed before and applies its limit, or answers it.
func (g *Gateway) reader(c *gin.Context) (string, bool) {
	user, ok := g.user(c)
	if !ok {
		return "", false
	}
	if d := g.Limiter.AllowRead(c.Param("sale"), user); !d.OK {
		WriteProblem(c, limited(d))
		return "", false
	}
	return user, true
}

// sale finds the path's sale in the book or answers the request.
func (g *Gateway) sale(c *gin.Context) (*inventory.Entry, bool) {
	if id := c.Param("sale"); queue.ValidSaleID(id) {
		if e, ok := g.Book.Get(id); ok {
			return e, true
		}
	}
	WriteProblem(c, g.problemOf(inventory.ErrNoSale))
	return nil, false
}

// allow applies the limits for placing orders: the user's own before the global one, so that one user's haste never costs the others.
func (g *Gateway) allow(c *gin.Context, user string) bool {
	sale := c.Param("sale")
	d := g.Limiter.AllowUser(sale, user)
	if own := d; own.OK {
		d = g.Limiter.AllowGlobal(c.Request.Context(), sale)
		if !d.OK { // whoever comes back as told must not meet their own limit then
			d.RetryAfter = max(d.RetryAfter, own.Next)
		}
	}
	if !d.OK {
		WriteProblem(c, limited(d))
	}
	return d.OK
}

// placeOrder answers 202 once the ticket is in Redis, or says why not.
func (g *Gateway) placeOrder(c *gin.Context) {
	g.tryOrder(c)
	if code := problemOfRequest(c); code != "" {
		g.admission.refused(c.Param("sale"), code)
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
		WriteProblem(c, g.problemOf(queue.ErrNotReady))
		return
	}
	if g.closed.Load() {
		g.refuse(c, queue.ErrPaused)
		return
	}
	body, key, problem := readOrder(c.Request, entry.Sale)
	if problem != nil {
		WriteProblem(c, *problem)
		return
	}
	if err := g.admission.Refusal(entry.Sale, user); err != nil {
		g.refuse(c, err)
		return
	}
	request := queue.Request{ID: g.ids.next(entry.Sale, user, key), User: user, Units: body.Quantity, Fingerprint: Fingerprint(body),
		Email: body.Email, Phone: body.Phone, Locale: cmp.Or(body.Locale, localeOf(c.GetHeader("Accept-Language"), g.cfg.Locale))}
	admission, err := g.admit(c.Request.Context(), entry, request, key != "")
	if err != nil {
		g.refuse(c, err)
		return
	}
	if g.Admitted != nil && !admission.Replayed {
		g.Admitted(c.Request, entry.Sale.ID, admission.Ticket, since)
	}
	g.admitted(c, entry.Sale, admission)
}

// admit asks for a place in the line, unless the request was made before and the line has forgotten it.
func (g *Gateway) admit(ctx context.Context, entry *inventory.Entry, r queue.Request, keyed bool) (queue.Admission, error) {
	if keyed && entry.View().Forgotten > 0 {
		if a, ok, err := g.repeated(ctx, entry.Sale.ID, r); ok {
			return a, err
		}
	}
	return g.admission.Admit(ctx, entry.Sale.ID, r)
}

func readOrder(r *http.Request, sale inventory.Sale) (body OrderBody, key string, problem *Problem) {
	if key, problem = IdempotencyKey(r.Header); problem != nil {
		return body, key, problem
	}
	raw, problem := ReadBody(r)
	if problem != nil {
		return body, key, problem
	}
	body, bad := DecodeOrder(raw)
	if len(bad) == 0 && body.Quantity > sale.PerUserLimit {
		bad = append(bad, FieldError{"quantity", "must be at most " + strconv.Itoa(sale.PerUserLimit) + ", the limit per person in this sale"})
	}
	if len(bad) > 0 {
		p := InvalidRequest(bad...)
		return body, key, &p
	}
	return body, key, nil
}

// lineWait is about how long a sale's line takes to lose half of its tickets,
// at most half a minute: a shopper who comes back sooner finds it as full.
func (g *Gateway) lineWait(sale string) time.Duration {
	entry, ok := g.Book.Get(sale)
	if !ok {
		return 0
	}
	seconds := float64(entry.View().Waiting) / entry.Rate() / 2
	return min(entry.Stopped()+time.Duration(seconds*float64(time.Second)), 30*time.Second)
}

// cancelOrder ends the owner's unpaid order.
func (g *Gateway) cancelOrder(c *gin.Context) {
	w, ok := g.orderOf(c)
	if !ok {
		return
	}
	ctx, sale := c.Request.Context(), w.entry.Sale.ID
	cancelled := g.Canceller.Cancel(ctx, sale, w.id, w.user)
	if errors.Is(cancelled, order.ErrNotFound) {
		// An order that Redis lost comes back on its receipt, to be cancelled.
		if _, err := g.find(ctx, w); err == nil {
			cancelled = g.Canceller.Cancel(ctx, sale, w.id, w.user)
		}
	}
	if cancelled != nil && !errors.Is(cancelled, order.ErrNotFound) {
		g.refuse(c, cancelled)
		return
	}
	// Not found may also be a ticket that was cancelled in line before and has no row yet.
	v, err := g.status.get(ctx, sale, w.id, w.user)
	if err == nil && v.Status != order.Cancelled {
		err = cancelled
	}
	if err != nil {
		g.refuse(c, err)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, bodyOf(v, w.entry.Pace()))
}

type orderList struct {
	Orders     []orderBody `json:"orders"`
	NextCursor string      `json:"next_cursor,omitempty"`
	unreadBody
}

// unreadBody says what a list of one user's orders leaves out.
type unreadBody struct {
	UnreadSales []string `json:"unread_sales,omitempty"` // orders that still wait in their lines are missing
}

func unreadOf(p order.Page) unreadBody { return unreadBody{UnreadSales: p.Unread} }

const (
	defaultPage = 20
	mostPage    = 100
)

// listOrders pages through the user's own orders, newest first.
func (g *Gateway) listOrders(c *gin.Context) {
	user, ok := g.reader(c)
	if !ok {
		return
	}
	after, limit, bad := pageOf(c)
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
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

func (g *Gateway) listBody(page order.Page) orderList {
	list := orderList{Orders: make([]orderBody, len(page.Orders)), unreadBody: unreadOf(page)}
	for i, v := range page.Orders {
		pace := inventory.Pace{PerSecond: inventory.FirstRate}
		if e, ok := g.Book.Get(v.SaleID); ok {
			pace = e.Pace()
		}
		list.Orders[i] = bodyOf(v, pace)
	}
	if page.Next != nil {
		list.NextCursor = page.Next.String()
	}
	return list
}

// pageOf reads ?limit= and ?cursor=.
func pageOf(c *gin.Context) (after *order.Cursor, limit int, bad []FieldError) {
	limit, bad = pageSize(c)
	if text, ok := c.GetQuery("cursor"); ok {
		cursor, valid := order.ParseCursor(text)
		if !valid {
			bad = append(bad, FieldError{"cursor", "must be the next_cursor of an earlier page"})
		}
		after = &cursor
	}
	return after, limit, bad
}

// pageSize reads ?limit=.
func pageSize(c *gin.Context) (limit int, bad []FieldError) {
	text, ok := c.GetQuery("limit")
	if !ok {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > mostPage {
		bad = append(bad, FieldError{"limit", "must be a whole number from 1 to " + strconv.Itoa(mostPage)})
	}
	return n, bad
}
