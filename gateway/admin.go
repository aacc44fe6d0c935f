package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	gojson "github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// adminSale is a sale as operators see it.
type adminSale struct {
	saleBody
	Cap         int        `json:"cap"` // 0: the configured queue.cap
	AdminState  string     `json:"admin_state"`
	Available   int64      `json:"available"` // in the ledger
	Version     int64      `json:"version"`
	Epoch       int64      `json:"epoch"`
	Line        *queueBody `json:"line,omitempty"`
	DrainPerSec float64    `json:"drain_per_second"`
	InLine      *bool      `json:"in_line,omitempty"` // of a change just made: whether the line has it; false: it follows by itself
}

// adminBody shows a sale with its line as it is right now.
func (o *Ops) adminBody(sale inventory.Sale, stock inventory.Stock, line *queueBody) adminSale {
	now := o.Book.Now()
	remaining := stock.Available
	if line != nil && line.Unread == "" {
		remaining = max(line.Stock, 0)
	}
	b := adminSale{Cap: sale.Cap, AdminState: sale.State, Available: stock.Available, Version: sale.Version, Epoch: sale.Epoch, Line: line}
	b.saleBody = saleBody{ID: sale.ID, Title: sale.Title, SKU: sale.SKU, PriceCents: sale.PriceCents, Currency: sale.Currency, StockTotal: stock.Total,
		Remaining: remaining, PerUserLimit: sale.PerUserLimit, StartsAt: formatTime(sale.Starts()), EndsAt: formatTime(sale.Ends()),
		State: sale.StateAt(now), ServerTime: formatTime(now)}
	if e, ok := o.Book.Get(sale.ID); ok {
		b.DrainPerSec = e.Rate()
	}
	return b
}

type adminSaleList struct {
	Sales      []adminSale `json:"sales"`
	NextCursor string      `json:"next_cursor,omitempty"`
}

// listSales pages through all sales, newest first.
func (o *Ops) listSales(c *gin.Context) {
	limit, bad := pageSize(c)
	var after *inventory.SaleCursor
	if text, ok := c.GetQuery("cursor"); ok {
		cursor, valid := inventory.ParseSaleCursor(text)
		if !valid {
			bad = append(bad, FieldError{"cursor", "must be the next_cursor of an earlier page"})
		}
		after = &cursor
	}
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	sales, stock, next, err := o.Catalog.Page(c.Request.Context(), after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	ids := make([]string, len(sales))
	for i, s := range sales {
		ids[i] = s.ID
	}
	lines := o.lines(c.Request.Context(), ids)
	list := adminSaleList{Sales: make([]adminSale, len(sales))}
	for i, s := range sales {
		list.Sales[i] = o.adminBody(s, stock[s.ID], lines[i])
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}

func (o *Ops) showSale(c *gin.Context) {
	id := c.Param("sale")
	sale, stock, err := o.Catalog.Get(c.Request.Context(), id)
	if err != nil {
		o.refuse(c, err)
		return
	}
	line, err := o.line(c.Request.Context(), id)
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, o.adminBody(sale, stock, line))
}

type createBody struct {
	ID           string    `json:"id"`
	Title        string    `json:"title"`
	SKU          string    `json:"sku"`
	Stock        int64     `json:"stock"`
	PriceCents   int64     `json:"price_cents"`
	Currency     string    `json:"currency"`
	PerUserLimit int       `json:"per_user_limit"`
	Cap          int       `json:"cap"`
	StartsAt     time.Time `json:"starts_at"`
	EndsAt       time.Time `json:"ends_at"`
	Open         bool      `json:"open"`
	reasonBody
}

func (o *Ops) createSale(c *gin.Context) {
	body := createBody{Currency: "CNY", PerUserLimit: 1}
	if !o.read(c, &body) {
		return
	}
	if body.StartsAt.IsZero() {
		body.StartsAt = o.now()
	}
	if body.EndsAt.IsZero() {
		body.EndsAt = body.StartsAt.Add(24 * time.Hour)
	}
	sale, err := o.Catalog.Create(c.Request.Context(), inventory.NewSale{ID: body.ID, Title: body.Title, SKU: body.SKU, Stock: body.Stock,
		PriceCents: body.PriceCents, Currency: body.Currency, PerUserLimit: body.PerUserLimit, Cap: body.Cap,
		StartsAt: body.StartsAt, EndsAt: body.EndsAt, Open: body.Open, Reason: body.Reason}, actorOf(c))
	if err != nil {
		o.refuse(c, err)
		return
	}
	o.answerChange(c, http.StatusCreated, sale, inventory.Stock{SaleID: sale.ID, Total: body.Stock, Available: body.Stock})
}

// reasonBody is what every change may say about itself.
type reasonBody struct {
	Reason string `json:"reason"`
}

// unchanged reports whether err says that nothing has changed: the admin log then takes back what was to be done.
func unchanged(err error) bool {
	code := codeOf(err)
	return errors.Is(err, inventory.ErrBusy) || errors.Is(err, queue.ErrNotReady) || code != CodeUnavailable && code != CodeInternal
}

func (o *Ops) setState(state string) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body reasonBody
		if !o.read(c, &body) {
			return
		}
		sale, stock, err := o.Catalog.SetState(c.Request.Context(), c.Param("sale"), state, actorOf(c), body.Reason)
		if err != nil {
			o.refuse(c, err)
			return
		}
		o.answerChange(c, http.StatusOK, sale, stock)
	}
}

func (o *Ops) updateSale(c *gin.Context) {
	var body struct {
		inventory.Change
		reasonBody
	}
	if !o.read(c, &body) {
		return
	}
	sale, stock, err := o.Catalog.Update(c.Request.Context(), c.Param("sale"), body.Change, actorOf(c), body.Reason)
	if err != nil {
		o.refuse(c, err)
		return
	}
	o.answerChange(c, http.StatusOK, sale, stock)
}

// adjustStock changes the stock once under each Idempotency-Key.
func (o *Ops) adjustStock(c *gin.Context) {
	var body struct {
		Delta int64 `json:"delta"`
		reasonBody
	}
	key, problem := IdempotencyKey(c.Request.Header)
	if problem != nil {
		WriteProblem(c, *problem)
		return
	}
	if !o.read(c, &body) {
		return
	}
	if key == "" {
		key = uuid.NewString()
	}
	done, err := o.Catalog.AdjustStock(c.Request.Context(), inventory.Adjustment{Sale: c.Param("sale"), Delta: body.Delta, Actor: actorOf(c), Reason: body.Reason, Key: key})
	if errors.Is(err, inventory.ErrMaybeAdjusted) {
		p := NewProblem(CodeUnavailable, "Whether the stock is changed is not known. Repeat the request with "+idempotencyHeader+": "+strconv.Quote(key)+", and it is changed once. "+err.Error())
		p.RetryAfter = time.Second
		WriteProblem(c, p)
		return
	}
	if err != nil {
		o.refuse(c, err)
		return
	}
	if done.Repeated {
		c.Header("Idempotency-Replayed", "true")
	}
	o.answerChange(c, http.StatusOK, done.Sale, done.Stock)
}

// answerChange answers for a change of a sale that is made, whatever happens from here on: what the line or the database does not tell
// is answered as the change left it.
func (o *Ops) answerChange(c *gin.Context, status int, sale inventory.Sale, stock inventory.Stock) {
	ctx, inLine := c.Request.Context(), o.carry(c, sale.ID)
	if now, left, err := o.Catalog.Get(ctx, sale.ID); err == nil {
		sale, stock = now, left
	}
	line, err := o.line(ctx, sale.ID)
	if err != nil {
		line = nil
	}
	body := o.adminBody(sale, stock, line)
	body.InLine = &inLine
	c.JSON(status, body)
}

// carry brings a change into the line and this process' book before the
// answer: the operator sees it done. Other instances follow within a second,
// later where there are more than five hundred sales, and so does this one should it fail here, which it reports.
func (o *Ops) carry(c *gin.Context, sale string) bool {
	ctx := c.Request.Context()
	kept := o.Keeper.Carry(ctx, sale)
	if kept != nil {
		o.log.Warn("change not yet carried into the line", "sale", sale, "error", kept)
	}
	if err := o.Book.RefreshSale(ctx, sale); err != nil {
		o.log.Warn("change not yet seen by this instance", "sale", sale, "error", err)
	}
	return kept == nil
}

func (o *Ops) listOrders(c *gin.Context) {
	after, limit, bad := pageOf(c)
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	if !o.checkSale(c, c.Param("sale")) {
		return
	}
	views, next, err := o.Finder.ListBySale(c.Request.Context(), c.Param("sale"), after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := adminOrderList{Orders: make([]adminOrder, len(views))}
	for i, v := range views {
		list.Orders[i] = adminOrderOf(v)
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}

type adminOrderList struct {
	Orders     []adminOrder `json:"orders"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// adminOrder adds whose order it is.
type adminOrder struct {
	orderBody
	User string `json:"user"`
}

func adminOrderOf(v order.View) adminOrder {
	return adminOrder{orderBody: bodyOf(v, inventory.Pace{PerSecond: 1}), User: v.User}
}

func (o *Ops) showOrder(c *gin.Context) {
	v, err := o.Finder.ByID(c.Request.Context(), c.Param("id"))
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, adminOrderOf(v))
}

func (o *Ops) audit(c *gin.Context) {
	result, err := o.Auditor.Run(c.Request.Context(), c.Query("sale"))
	if err != nil {
		o.refuse(c, err)
		return
	}
	if result.Verdict == inventory.VerdictUnknown && result.Away != nil {
		o.refuseWith(c, result.Away, result)
		return
	}
	c.JSON(http.StatusOK, result)
}

// read decodes the body strictly, or answers the request.
func (o *Ops) read(c *gin.Context, into any) bool {
	raw, problem := ReadBody(c.Request)
	if problem != nil {
		WriteProblem(c, *problem)
		return false
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return true
	}
	if err := gojson.Unmarshal(raw, into, gojson.RejectUnknownMembers(true)); err != nil {
		field := decodeError(err)
		WriteProblem(c, InvalidRequest(field))
		return false
	}
	return true
}

// refuse answers with the problem for err. Operators see what went wrong.
func (o *Ops) refuse(c *gin.Context, err error) { o.refuseWith(c, err, nil) }

// refuseWith is refuse with further members in the body.
func (o *Ops) refuseWith(c *gin.Context, err error, with any) {
	code := codeOf(err)
	detail := detailOf(code, err)
	if code == CodeUnavailable || code == CodeNotFound { // it names what is missing
		detail = err.Error()
	}
	p := NewProblem(code, detail)
	p.RetryAfter, p.With = time.Second, with
	var invalid invalid.Error
	if errors.As(err, &invalid) {
		p.Errors = fieldErrors(invalid)
	}
	if code == CodeUnavailable {
		o.refused.note(RequestID(c), c.FullPath(), err)
	}
	if code == CodeInternal {
		o.log.Error("admin request failed", "request_id", RequestID(c), "route", c.FullPath(), "error", err)
	}
	WriteProblem(c, p)
}
