package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/notify"
	"sluice/order"
)

// Payments takes the payment provider's callbacks.
type Payments struct {
	Verifier *notify.Verifier
	Payer    *order.Payer
}

type paymentBody struct {
	OrderID   string `json:"order_id"`
	SaleID    string `json:"sale_id"`
	PaymentID string `json:"payment_id"`
	Status    string `json:"status"`
	Refund    string `json:"refund,omitempty"`
	PaidAt    string `json:"paid_at,omitempty"`
}

// refundRequired is what a provider and an order's owner read when money must go back.
const refundRequired = "required"

// payOrder takes a signed callback. Where payments are off there is no such
// route. Whatever is answered 200 is final: the provider need not send it again.
func (g *Gateway) payOrder(c *gin.Context) {
	if g.Payments == nil {
		WriteProblem(c, NewProblem(CodeNotFound, "No resource has this address."))
		return
	}
	body, problem := ReadBody(c.Request)
	if problem != nil {
		WriteProblem(c, *problem)
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
	if len(id) > maxOrderID || !printable(id) {
		g.refuse(c, order.ErrNotFound)
		return
	}
	payment, bad := DecodePayment(body, entry.Sale.ID, id)
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	paying, err := g.Payments.Payer.Pay(c.Request.Context(), entry.Sale.ID, id, payment)
	if err != nil {
		g.refuse(c, err)
		return
	}
	answer := paymentBody{OrderID: id, SaleID: entry.Sale.ID, PaymentID: payment.ID, Status: paying.Order.Status, PaidAt: formatTime(paying.Order.PaidAt)}
	if paying.Refund() {
		answer.Refund = refundRequired
	}
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusOK, answer)
}

// unsigned answers a callback that nobody we know has signed; it counts
// against its address, as a bad token does.
func (g *Gateway) unsigned(c *gin.Context, err error) {
	if d := g.Limiter.AllowAnonymous(c.Param("sale"), c.ClientIP()); !d.OK {
		WriteProblem(c, limited(d))
		return
	}
	g.log.Warn("payment callback refused", "request_id", RequestID(c), "order", c.Param("id"), "error", err)
	WriteProblem(c, NewProblem(CodeUnauthorized, "Send the callback signed: webhook-id, webhook-timestamp of the last five minutes, webhook-signature."))
}

// DecodePayment reads a provider's payload for an order of a sale. Where it
// names them itself they must be these, for the signature covers no address.
// Members it does not know are ignored: providers add some without asking.
// Each error names the member and the rule.
func DecodePayment(body []byte, sale, id string) (order.Payment, []FieldError) {
	var raw struct {
		ID       jsontext.Value `json:"payment_id"`
		Amount   jsontext.Value `json:"amount_cents"`
		Currency jsontext.Value `json:"currency"`
		PaidAt   jsontext.Value `json:"paid_at"`
		OrderID  jsontext.Value `json:"order_id"`
		SaleID   jsontext.Value `json:"sale_id"`
	}
	if jsontext.Value(body).Kind() != jsontext.KindBeginObject {
		return order.Payment{}, []FieldError{{"body", "must be one JSON object"}}
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return order.Payment{}, []FieldError{decodeError(err)}
	}
	var p order.Payment
	var errs []FieldError
	check := func(field, rule string, ok bool) {
		if !ok {
			errs = append(errs, FieldError{field, rule})
		}
	}
	var ok bool
	p.ID, ok = textOf(raw.ID)
	check("payment_id", "must be 1 to 128 printable ASCII characters", ok && order.ValidPaymentID(p.ID))
	p.AmountCents, ok = amountOf(raw.Amount)
	check("amount_cents", "must be a whole number of cents, written in digits only", ok)
	p.Currency, ok = textOf(raw.Currency)
	check("currency", "must be a code of three capital letters, such as CNY", ok && validCurrency(p.Currency))
	check("order_id", "must be the order of the address; leave it out if you do not know it", raw.OrderID == nil || names(raw.OrderID, id))
	check("sale_id", "must be the sale of the address; leave it out if you do not know it", raw.SaleID == nil || names(raw.SaleID, sale))
	if raw.PaidAt != nil {
		text, isText := textOf(raw.PaidAt)
		var err error
		p.PaidAt, err = time.Parse(time.RFC3339, text)
		check("paid_at", "must be an RFC 3339 time between 1970 and 9999; leave it out if there is none", isText && err == nil && p.PaidAt.Unix() >= 0 && p.PaidAt.Year() <= 9999)
	}
	if errs != nil {
		return order.Payment{}, errs
	}
	return p, nil
}

func names(value jsontext.Value, want string) bool {
	text, ok := textOf(value)
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
