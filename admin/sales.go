package admin

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"sluice/api"
	"sluice/inventory"
	"sluice/inventory/reconcile"
)

// sales answers for sales. What it changes it brings into the line before it answers.
type sales struct {
	replier
	saleStore  *inventory.SaleStore
	saleCache  *inventory.SaleCache
	reconciler *reconcile.Reconciler
	lines      *lineViews
	now        func() time.Time
}

func (h *sales) routes(group gin.IRoutes) {
	group.GET("/sales", h.listSales)
	group.POST("/sales", h.createSale)
	group.GET("/sales/:sale", h.showSale)
	group.PATCH("/sales/:sale", h.updateSale)
	group.POST("/sales/:sale/open", h.setState(inventory.Open))
	group.POST("/sales/:sale/pause", h.setState(inventory.Paused))
	group.POST("/sales/:sale/close", h.setState(inventory.Closed))
	group.POST("/sales/:sale/stock", h.adjustStock)
}

// adminBody shows a sale with its line as it is right now.
func (h *sales) adminBody(sale inventory.Sale, stock inventory.Stock, line *api.Line) api.AdminSale {
	now := h.saleCache.Now()
	remaining := stock.Available
	if line != nil && line.Unread == "" {
		remaining = max(line.Stock, 0)
	}
	b := api.AdminSale{Cap: sale.Cap, AdminState: sale.State, Available: stock.Available, Version: sale.Version,
		Epoch: sale.Epoch, Line: line}
	b.Sale = api.Sale{ID: sale.ID, Title: sale.Title, SKU: sale.SKU, PriceCents: sale.PriceCents,
		Currency: sale.Currency, StockTotal: stock.Total,
		Remaining: remaining, PerUserLimit: sale.PerUserLimit, StartsAt: api.FormatTime(sale.Starts()),
		EndsAt: api.FormatTime(sale.Ends()),
		State:  sale.StateAt(now), ServerTime: api.FormatTime(now)}
	if e, ok := h.saleCache.Get(sale.ID); ok {
		b.DrainPerSec = e.Rate()
	}
	return b
}

// listSales pages through all sales, newest first.
func (h *sales) listSales(c *gin.Context) {
	limit, bad := api.PageSize(c)
	after, bad := api.Cursor(c, inventory.ParseSaleCursor, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	sales, stock, next, err := h.saleStore.Page(c.Request.Context(), after, limit)
	if err != nil {
		h.refuse(c, err)
		return
	}
	ids := make([]string, len(sales))
	for i, s := range sales {
		ids[i] = s.ID
	}
	lines := h.lines.several(c.Request.Context(), ids)
	list := api.AdminSaleList{Sales: make([]api.AdminSale, len(sales))}
	for i, s := range sales {
		list.Sales[i] = h.adminBody(s, stock[s.ID], lines[i])
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}

func (h *sales) showSale(c *gin.Context) {
	id := c.Param("sale")
	sale, stock, err := h.saleStore.Get(c.Request.Context(), id)
	if err != nil {
		h.refuse(c, err)
		return
	}
	line, err := h.lines.one(c.Request.Context(), id)
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, h.adminBody(sale, stock, line))
}

func (h *sales) createSale(c *gin.Context) {
	body := api.NewSale{Currency: "CNY", PerUserLimit: 1}
	if !h.read(c, &body) {
		return
	}
	if body.StartsAt.IsZero() {
		body.StartsAt = h.now()
	}
	if body.EndsAt.IsZero() {
		body.EndsAt = body.StartsAt.Add(24 * time.Hour)
	}
	sale, err := h.saleStore.Create(c.Request.Context(), inventory.NewSale{ID: body.ID, Title: body.Title,
		SKU:        body.SKU,
		Stock:      body.Stock,
		PriceCents: body.PriceCents, Currency: body.Currency, PerUserLimit: body.PerUserLimit, Cap: body.Cap,
		StartsAt: body.StartsAt, EndsAt: body.EndsAt, Open: body.Open, Reason: body.Reason}, actorOf(c))
	if err != nil {
		h.refuse(c, err)
		return
	}
	h.answerChange(c, http.StatusCreated, sale, inventory.Stock{SaleID: sale.ID, Total: body.Stock,
		Available: body.Stock})
}

func (h *sales) setState(state string) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body api.WithReason
		if !h.read(c, &body) {
			return
		}
		sale, stock, err := h.saleStore.SetState(c.Request.Context(), c.Param("sale"), state, actorOf(c), body.Reason)
		if err != nil {
			h.refuse(c, err)
			return
		}
		h.answerChange(c, http.StatusOK, sale, stock)
	}
}

func (h *sales) updateSale(c *gin.Context) {
	var body struct {
		inventory.Change
		api.WithReason
	}
	if !h.read(c, &body) {
		return
	}
	sale, stock, err := h.saleStore.Update(c.Request.Context(), c.Param("sale"), body.Change, actorOf(c), body.Reason)
	if err != nil {
		h.refuse(c, err)
		return
	}
	h.answerChange(c, http.StatusOK, sale, stock)
}

// adjustStock changes the stock once under each Idempotency-Key.
func (h *sales) adjustStock(c *gin.Context) {
	var body struct {
		Delta int64 `json:"delta"`
		api.WithReason
	}
	key, problem := api.IdempotencyKey(c.Request.Header)
	if problem != nil {
		api.WriteProblem(c, *problem)
		return
	}
	if !h.read(c, &body) {
		return
	}
	if key == "" {
		key = uuid.NewString()
	}
	done, err := h.saleStore.AdjustStock(c.Request.Context(), inventory.Adjustment{Sale: c.Param("sale"),
		Delta: body.Delta, Actor: actorOf(c), Reason: body.Reason, Key: key})
	if errors.Is(err, inventory.ErrMaybeAdjusted) {
		p := api.NewProblem(api.CodeUnavailable,
			"Whether the stock is changed is not known. Repeat the request with "+api.IdempotencyHeader+": "+
				strconv.Quote(key)+", and it is changed once. "+err.Error())
		p.RetryAfter = time.Second
		api.WriteProblem(c, p)
		return
	}
	if err != nil {
		h.refuse(c, err)
		return
	}
	if done.Repeated {
		c.Header("Idempotency-Replayed", "true")
	}
	h.answerChange(c, http.StatusOK, done.Sale, done.Stock)
}

// answerChange answers for a change of a sale that is made, whatever happens from here on. What the line or the
// database does not tell is answered as the change left it.
func (h *sales) answerChange(c *gin.Context, status int, sale inventory.Sale, stock inventory.Stock) {
	ctx, inLine := c.Request.Context(), h.carry(c, sale.ID)
	if now, left, err := h.saleStore.Get(ctx, sale.ID); err == nil {
		sale, stock = now, left
	}
	line, err := h.lines.one(ctx, sale.ID)
	if err != nil {
		line = nil
	}
	body := h.adminBody(sale, stock, line)
	body.InLine = &inLine
	c.JSON(status, body)
}

// carry brings a change into the line and this process' sale cache before the answer: the operator sees it done.
// Other instances follow within a second, later where there are more than five hundred sales. So does this one should
// it fail here, which it reports.
func (h *sales) carry(c *gin.Context, sale string) bool {
	ctx := c.Request.Context()
	kept := h.reconciler.SyncLine(ctx, sale)
	if kept != nil {
		h.log.Warn("change not yet carried into the line", "sale", sale, "error", kept)
	}
	if err := h.saleCache.RefreshSale(ctx, sale); err != nil {
		h.log.Warn("change not yet seen by this instance", "sale", sale, "error", err)
	}
	return kept == nil
}
