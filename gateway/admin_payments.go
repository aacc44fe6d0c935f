package gateway

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/order"
	"sluice/queue"
)

// listPayments pages through what the provider has told, newest first.
func (o *Ops) listPayments(c *gin.Context) {
	limit, bad := api.PageSize(c)
	only := order.PaymentFilter{Outcome: c.Query("outcome"), Sale: c.Query("sale")}
	if only.Outcome != "" && !slices.Contains(order.PaymentOutcomes(), only.Outcome) {
		bad = append(bad, api.Field("outcome", "must be one of "+strings.Join(order.PaymentOutcomes(), ", ")))
	}
	if only.Sale != "" && !queue.ValidSaleID(only.Sale) {
		bad = append(bad, api.Field("sale", "must be the id of a sale"))
	}
	var after *order.PaymentCursor
	if text := c.Query("cursor"); text != "" {
		cursor, ok := order.ParsePaymentCursor(text)
		if after = &cursor; !ok {
			bad = append(bad, api.BadCursor())
		}
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	rows, next, err := o.Finder.ListPayments(c.Request.Context(), only, after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := api.PaymentList{Payments: make([]api.Payment, len(rows))}
	for i, r := range rows {
		list.Payments[i] = api.Payment{PaymentID: r.PaymentID, OrderID: r.OrderID, SaleID: r.SaleID, AmountCents: r.AmountCents, Currency: r.Currency,
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
