package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"sluice/api"
	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// adminBody shows a sale with its line as it is right now.
func (o *Ops) adminBody(sale inventory.Sale, stock inventory.Stock, line *api.Line) api.AdminSale {
	now := o.Book.Now()
	remaining := stock.Available
	if line != nil && line.Unread == "" {
		remaining = max(line.Stock, 0)
	}
	b := api.AdminSale{Cap: sale.Cap, AdminState: sale.State, Available: stock.Available, Version: sale.Version, Epoch: sale.Epoch, Line: line}
	b.Sale = api.Sale{ID: sale.ID, Title: sale.Title, SKU: sale.SKU, PriceCents: sale.PriceCents, Currency: sale.Currency, StockTotal: stock.Total,
		Remaining: remaining, PerUserLimit: sale.PerUserLimit, StartsAt: api.FormatTime(sale.Starts()), EndsAt: api.FormatTime(sale.Ends()),
		State: sale.StateAt(now), ServerTime: api.FormatTime(now)}
	if e, ok := o.Book.Get(sale.ID); ok {
		b.DrainPerSec = e.Rate()
	}
	return b
}

// listSales pages through all sales, newest first.
func (o *Ops) listSales(c *gin.Context) {
	limit, bad := api.PageSize(c)
	after, bad := api.Cursor(c, inventory.ParseSaleCursor, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
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
	list := api.AdminSaleList{Sales: make([]api.AdminSale, len(sales))}
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

func (o *Ops) createSale(c *gin.Context) {
	body := api.NewSale{Currency: "CNY", PerUserLimit: 1}
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

// unchanged reports whether err says that nothing has changed: the admin log then takes back what was to be done.
func unchanged(err error) bool {
	code := codeOf(err)
	return errors.Is(err, inventory.ErrBusy) || errors.Is(err, queue.ErrNotReady) || code != api.CodeUnavailable && code != api.CodeInternal
}

func (o *Ops) setState(state string) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
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
		api.WithReason
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
		api.WithReason
	}
	key, problem := api.IdempotencyKey(c.Request.Header)
	if problem != nil {
		api.WriteProblem(c, *problem)
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
		p := api.NewProblem(api.CodeUnavailable, "Whether the stock is changed is not known. Repeat the request with "+api.IdempotencyHeader+": "+strconv.Quote(key)+", and it is changed once. "+err.Error())
		p.RetryAfter = time.Second
		api.WriteProblem(c, p)
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
	limit, bad := api.PageSize(c)
	after, bad := api.Cursor(c, order.ParseCursor, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
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
	list := api.AdminOrderList{Orders: make([]api.AdminOrder, len(views))}
	for i, v := range views {
		list.Orders[i] = adminOrderOf(v)
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}

func adminOrderOf(v order.View) api.AdminOrder {
	return api.AdminOrder{Order: api.OrderOf(v, inventory.Pace{PerSecond: 1}), User: v.User}
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
	raw, problem := api.ReadBody(c.Request)
	if problem != nil {
		api.WriteProblem(c, *problem)
		return false
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return true
	}
	if bad := api.DecodeBody(raw, into); bad != nil {
		api.WriteProblem(c, api.InvalidRequest(*bad))
		return false
	}
	return true
}

// refuse answers with the problem for err. Operators see what went wrong.
func (o *Ops) refuse(c *gin.Context, err error) { o.refuseWith(c, err, nil) }

// refuseWith is refuse with further members in the body.
func (o *Ops) refuseWith(c *gin.Context, err error, with any) {
	code := codeOf(err)
	detail := api.DetailOf(code, err)
	if code == api.CodeUnavailable || code == api.CodeNotFound { // it names what is missing
		detail = err.Error()
	}
	p := api.NewProblem(code, detail)
	p.RetryAfter, p.With = time.Second, with
	var invalid invalid.Error
	if errors.As(err, &invalid) {
		p.Errors = api.FieldErrors(invalid)
	}
	if code == api.CodeUnavailable {
		o.refused.Note(api.RequestID(c), c.FullPath(), err)
	}
	if code == api.CodeInternal {
		o.log.Error("admin request failed", "request_id", api.RequestID(c), "route", c.FullPath(), "error", err)
	}
	api.WriteProblem(c, p)
}
