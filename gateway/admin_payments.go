package gateway

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/order"
	"sluice/queue"
)

// adminPayment is a payment as operators see it.
type adminPayment struct {
	PaymentID   string `json:"payment_id"`
	OrderID     string `json:"order_id"`
	SaleID      string `json:"sale_id"`
	AmountCents int64  `json:"amount_cents"`
	Currency    string `json:"currency"`
	Outcome     string `json:"outcome"`
	PaidAt      string `json:"paid_at,omitempty"`
	ReceivedAt  string `json:"received_at"`
}

type adminPaymentList struct {
	Payments   []adminPayment `json:"payments"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

// listPayments pages through what the provider has told, newest first.
func (o *Ops) listPayments(c *gin.Context) {
	limit, bad := pageSize(c)
	only := order.PaymentFilter{Outcome: c.Query("outcome"), Sale: c.Query("sale")}
	if only.Outcome != "" && !slices.Contains(order.PaymentOutcomes(), only.Outcome) {
		bad = append(bad, FieldError{"outcome", "must be one of " + strings.Join(order.PaymentOutcomes(), ", ")})
	}
	if only.Sale != "" && !queue.ValidSaleID(only.Sale) {
		bad = append(bad, FieldError{"sale", "must be the id of a sale"})
	}
	var after *order.PaymentCursor
	if text := c.Query("cursor"); text != "" {
		cursor, ok := order.ParsePaymentCursor(text)
		if after = &cursor; !ok {
			bad = append(bad, FieldError{"cursor", "must be the next_cursor of an earlier page"})
		}
	}
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	rows, next, err := o.Finder.ListPayments(c.Request.Context(), only, after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := adminPaymentList{Payments: make([]adminPayment, len(rows))}
	for i, r := range rows {
		list.Payments[i] = adminPayment{PaymentID: r.PaymentID, OrderID: r.OrderID, SaleID: r.SaleID, AmountCents: r.AmountCents, Currency: r.Currency,
			Outcome: r.Outcome, ReceivedAt: formatTime(time.UnixMilli(r.ReceivedAt))}
		if r.PaidAt > 0 {
			list.Payments[i].PaidAt = formatTime(time.UnixMilli(r.PaidAt))
		}
	}
	if next != nil {
		list.NextCursor = next.String()
	}
	c.JSON(http.StatusOK, list)
}
