package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/api"
	"sluice/notify/webhook"
	"sluice/order"
	"sluice/order/payment"
)

// Payments receives the payment provider's callbacks.
type Payments struct {
	Verifier *webhook.Verifier
	Payer    *payment.Payer
}

// payOrder handles a signed callback. Without payments there is no such route. After a 200 the provider need not repeat
// the callback.
func (g *Gateway) payOrder(c *gin.Context) {
	if g.Payments == nil {
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound, "No resource has this address."))
		return
	}
	body, problem := api.ReadBody(c.Request)
	if problem != nil {
		api.WriteProblem(c, *problem)
		return
	}
	if err := g.Payments.Verifier.Verify(c.Request.Header, body); err != nil {
		g.unsigned(c, err)
		return
	}
	entry, ok := g.sale(c)
	if !ok {
		return
	}
	id := c.Param("id")
	if len(id) > maxOrderID || !api.Printable(id) {
		g.refuse(c, order.ErrNotFound)
		return
	}
	paid, bad := DecodePayment(body, entry.Sale.ID, id)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	paying, err := g.Payments.Payer.Pay(c.Request.Context(), entry.Sale.ID, id, paid)
	if err != nil {
		g.refuse(c, err)
		return
	}
	answer := api.PaymentAnswer{OrderID: id, SaleID: entry.Sale.ID, PaymentID: paid.ID, Status: paying.Order.Status,
		PaidAt: api.FormatTime(paying.Order.PaidAt)}
	if paying.Refund() {
		answer.Refund = api.RefundRequired
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, answer)
}

// unsigned refuses a callback without a valid signature and counts it against its address, like a bad token.
func (g *Gateway) unsigned(c *gin.Context, err error) {
	if d := g.Limiter.AllowAnonymous(c.Param("sale"), c.ClientIP()); !d.OK {
		api.WriteProblem(c, limited(d))
		return
	}
	g.log.Warn("payment callback refused", "request_id", api.RequestID(c), "order", c.Param("id"), "error", err)
	api.WriteProblem(c, api.NewProblem(api.CodeUnauthorized,
		"Send the callback signed: webhook-id, webhook-timestamp of the last five minutes, webhook-signature."))
}

// DecodePayment decodes a provider's payload for an order of a sale. If it names a sale or order, they must be these,
// because the signature does not cover the URL. Unknown members are ignored. Each error names the member and the rule.
func DecodePayment(body []byte, sale, id string) (payment.Payment, []api.FieldError) {
	var raw struct {
		ID       jsontext.Value `json:"payment_id"`
		Amount   jsontext.Value `json:"amount_cents"`
		Currency jsontext.Value `json:"currency"`
		PaidAt   jsontext.Value `json:"paid_at"`
		OrderID  jsontext.Value `json:"order_id"`
		SaleID   jsontext.Value `json:"sale_id"`
	}
	if jsontext.Value(body).Kind() != jsontext.KindBeginObject {
		return payment.Payment{}, []api.FieldError{api.Field("body", "must be one JSON object")}
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return payment.Payment{}, []api.FieldError{api.DecodeError(err)}
	}
	var p payment.Payment
	var errs []api.FieldError
	check := func(field, rule string, ok bool) {
		if !ok {
			errs = append(errs, api.Field(field, rule))
		}
	}
	var ok bool
	p.ID, ok = api.TextOf(raw.ID)
	check("payment_id", "must be 1 to 128 printable ASCII characters", ok && order.ValidPaymentID(p.ID))
	p.AmountCents, ok = amountOf(raw.Amount)
	check("amount_cents", "must be a whole number of cents, written in digits only", ok)
	p.Currency, ok = api.TextOf(raw.Currency)
	check("currency", "must be a code of three capital letters, such as CNY", ok && validCurrency(p.Currency))
	check("order_id", "must be the order of the address; leave it out if you do not know it", raw.OrderID == nil ||
		names(raw.OrderID, id))
	check("sale_id", "must be the sale of the address; leave it out if you do not know it", raw.SaleID == nil ||
		names(raw.SaleID, sale))
	if raw.PaidAt != nil {
		text, isText := api.TextOf(raw.PaidAt)
		var err error
		p.PaidAt, err = time.Parse(time.RFC3339, text)
		check("paid_at", "must be an RFC 3339 time between 1970 and 9999; leave it out if there is none", isText &&
			err == nil && p.PaidAt.Unix() >= 0 && p.PaidAt.Year() <= 9999)
	}
	if errs != nil {
		return payment.Payment{}, errs
	}
	return p, nil
}

func names(value jsontext.Value, want string) bool {
	text, ok := api.TextOf(value)
	return ok && text == want
}

func validCurrency(text string) bool {
	return len(text) == 3 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func amountOf(value jsontext.Value) (int64, bool) {
	if value.Kind() != jsontext.KindNumber {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value), 10, 63)
	return int64(n), err == nil
}
