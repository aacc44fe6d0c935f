package admin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/inventory"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/order/timeline"
	"sluice/queue"
)

// orders answers for orders, for what happened to them and for payments.
type orders struct {
	saleChecker
	finder    *lookup.Finder
	timelines *timeline.Timelines
}

func (h *orders) routes(group gin.IRoutes) {
	group.GET("/sales/:sale/orders", h.listOrders)
	group.GET("/orders/:id", h.showOrder)
	group.GET("/orders/:id/timeline", h.orderTimeline)
	group.GET("/timelines", h.userTimelines)
	group.GET("/payments", h.listPayments)
}

func timelineBodyOf(t timeline.Timeline) api.Timeline {
	b := api.Timeline{Order: adminOrderOf(t.Order), Steps: make([]api.Step, len(t.Events))}
	for i, e := range t.Events {
		b.Steps[i] = api.Step{At: api.FormatTime(e.At), Step: e.Step,
			DurationMS: float64(e.Took.Microseconds()) / 1000, Attempt: e.Attempt,
			Instance: e.Instance, Actor: e.Actor, Reason: e.Reason}
	}
	return b
}

// orderTimeline tells what happened to one order.
func (h *orders) orderTimeline(c *gin.Context) {
	t, err := h.timelines.Of(c.Request.Context(), c.Param("id"))
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, timelineBodyOf(t))
}

const (
	defaultTimelines = 5
	mostTimelines    = 20 // each asks both stores
)

// userTimelines pages through what happened to the orders of one user, newest first.
func (h *orders) userTimelines(c *gin.Context) {
	user, limit := c.Query("user"), defaultTimelines
	asked, bad := api.PageSize(c)
	after, bad := api.Cursor(c, lookup.ParseCursor, bad)
	if _, ok := c.GetQuery("limit"); ok {
		if limit = asked; len(bad) == 0 && limit > mostTimelines {
			bad = append(bad, api.Field("limit", "must be a whole number from 1 to "+strconv.Itoa(mostTimelines)))
		}
	}
	if !auth.ValidUser(user) {
		bad = append(bad, api.Field("user", "must be 1 to 128 bytes without control characters"))
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	timelines, page, err := h.timelines.ByUser(c.Request.Context(), user, after, limit)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.TimelineList{Timelines: make([]api.Timeline, len(timelines)),
		Unread: api.Unread{UnreadSales: page.Unread}}
	for i, t := range timelines {
		list.Timelines[i] = timelineBodyOf(t)
	}
	if page.Next != nil {
		list.NextCursor = page.Next.String()
	}
	c.JSON(http.StatusOK, list)
}

func (h *orders) listOrders(c *gin.Context) {
	limit, bad := api.PageSize(c)
	after, bad := api.Cursor(c, lookup.ParseCursor, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if !h.checkSale(c, c.Param("sale")) {
		return
	}
	views, next, err := h.finder.ListBySale(c.Request.Context(), c.Param("sale"), after, limit)
	if err != nil {
		h.refuse(c, err)
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
	return api.AdminOrder{Order: api.OrderOf(v, inventory.Drain{PerSecond: 1}), User: v.User}
}

func (h *orders) showOrder(c *gin.Context) {
	v, err := h.finder.ByID(c.Request.Context(), c.Param("id"))
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, adminOrderOf(v))
}

// listPayments pages through what the provider has told, newest first.
func (h *orders) listPayments(c *gin.Context) {
	limit, bad := api.PageSize(c)
	only := lookup.PaymentFilter{Outcome: c.Query("outcome"), Sale: c.Query("sale")}
	if only.Outcome != "" && !slices.Contains(order.PaymentOutcomes(), only.Outcome) {
		bad = append(bad, api.Field("outcome", "must be one of "+strings.Join(order.PaymentOutcomes(), ", ")))
	}
	if only.Sale != "" && !queue.ValidSaleID(only.Sale) {
		bad = append(bad, api.Field("sale", "must be the id of a sale"))
	}
	var after *lookup.PaymentCursor
	if text := c.Query("cursor"); text != "" {
		cursor, ok := lookup.ParsePaymentCursor(text)
		if after = &cursor; !ok {
			bad = append(bad, api.BadCursor())
		}
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	rows, next, err := h.finder.ListPayments(c.Request.Context(), only, after, limit)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.PaymentList{Payments: make([]api.Payment, len(rows))}
	for i, r := range rows {
		list.Payments[i] = api.Payment{PaymentID: r.PaymentID, OrderID: r.OrderID, SaleID: r.SaleID,
			AmountCents: r.AmountCents, Currency: r.Currency,
			Outcome: r.Outcome, ReceivedAt: api.FormatTime(time.UnixMilli(r.ReceivedAt))}
		if r.PaidAt > 0 {
			list.Payments[i].PaidAt = api.FormatTime(time.UnixMilli(r.PaidAt))
		}
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}
