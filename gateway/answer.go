package gateway

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/api"
	"sluice/inventory"
	"sluice/order"
	"sluice/queue"
)

// answers writes the frequent answers of a rush without encoding/json: the 202, refusals and an order's status. It
// reuses buffers and shares constant header values, which nobody modifies.
type answers struct {
	buffers  sync.Pool // of *[]byte
	json     []string
	problem  []string
	noStore  []string
	yes      []string
	soon     []string
	prepared map[api.Code]preparedProblem
}

// preparedProblem is a refusal whose text depends on the request only by the request's id.
type preparedProblem struct {
	status     int
	retry      bool
	head, tail []byte // before and after the request id
	noted      *gin.Error
}

func newAnswers(busyURL string) *answers {
	a := &answers{
		json:     []string{"application/json; charset=utf-8"},
		problem:  []string{"application/problem+json"},
		noStore:  []string{"no-store"},
		yes:      []string{"true"},
		soon:     []string{"1"},
		prepared: map[api.Code]preparedProblem{},
		buffers:  sync.Pool{New: func() any { return new([]byte) }},
	}
	for _, code := range []api.Code{api.CodeSoldOut, api.CodeSaleEnded, api.CodeSalePaused, api.CodeQueueFull} {
		if code == api.CodeQueueFull && busyURL != "" {
			continue // browsers are redirected instead
		}
		p := api.NewProblem(code, api.DetailOf(code, nil))
		// Titles, details and codes need no JSON escapes; a test compares with api.WriteProblem.
		head := `{"type":"` + p.Type + `","title":"` + p.Title + `","status":` + strconv.Itoa(p.Status) +
			`,"detail":"` + p.Detail +
			`","code":"` + string(code) + `","request_id":"`
		a.prepared[code] = preparedProblem{status: p.Status, retry: code.ComesBack(), head: []byte(head),
			tail: []byte(`"}`), noted: api.RefusalNote(code)}
	}
	return a
}

// write sends a body that build appends to an empty buffer.
func (a *answers) write(c *gin.Context, status int, build func([]byte) []byte) {
	buffer := a.buffers.Get().(*[]byte)
	defer a.buffers.Put(buffer)
	*buffer = build((*buffer)[:0])
	c.Writer.WriteHeader(status)
	_, _ = c.Writer.Write(*buffer) // an error means that the client has gone
}

// admitted answers 202 with the order's id, place and links.
func (g *Gateway) admitted(c *gin.Context, sale inventory.Sale, a queue.Admission) {
	t := a.Ticket
	path := "/v1/sales/" + sale.ID + "/orders/" + t.ID
	h := c.Writer.Header()
	values := [...]string{path, strconv.FormatInt(min(max(t.ETASeconds, 1), 30), 10), ""}
	h["Location"], h["Retry-After"] = values[0:1:1], values[1:2:2]
	receipt := ""
	if g.Receipts != nil {
		receipt = g.Receipts.Sign(sale.ID, t)
		values[2] = receipt
		h[receiptHeader] = values[2:3:3]
	}
	h["Cache-Control"] = g.answers.noStore
	h["Content-Type"] = g.answers.json
	if a.Replayed {
		h["Idempotency-Replayed"] = g.answers.yes
	}
	// Ids, paths and receipts consist of letters, digits, dots, dashes and slashes, which JSON does not escape.
	g.answers.write(c, http.StatusAccepted, func(b []byte) []byte {
		b = append(append(b, `{"order_id":"`...), t.ID...)
		b = append(append(b, `","sale_id":"`...), sale.ID...)
		b = append(append(b, `","status":"`+order.Queued+`","position":`...), strconv.FormatInt(t.Position, 10)...)
		b = append(append(b, `,"eta_seconds":`...), strconv.FormatInt(t.ETASeconds, 10)...)
		if receipt != "" {
			b = append(append(append(b, `,"receipt":"`...), receipt...), '"')
		}
		b = append(append(b, `,"links":{"self":"`...), path...)
		b = append(append(b, `","events":"`...), path...)
		return append(b, `/events"}}`...)
	})
}

// refuse answers with the problem for err, and logs unknown errors.
func (g *Gateway) refuse(c *gin.Context, err error) {
	code := api.CodeOf(err)
	if p, ok := g.answers.prepared[code]; ok {
		g.refusePrepared(c, code, p)
		return
	}
	switch code {
	case api.CodeInternal:
		g.log.Error("request failed", "request_id", api.RequestID(c), "route", c.FullPath(), "error", err)
	case api.CodeUnavailable:
		g.refused.Note(api.RequestID(c), c.FullPath(), err)
	}
	p := g.problemOf(err)
	if code == api.CodeQueueFull {
		p.RetryAfter += g.lineWait(c.Param("sale"))
	}
	api.WriteProblem(c, p)
}

// refusePrepared writes the same as api.WriteProblem.
func (g *Gateway) refusePrepared(c *gin.Context, code api.Code, p preparedProblem) {
	c.Abort()
	api.NoteRefusal(c, p.noted)
	h := c.Writer.Header()
	h["Cache-Control"] = g.answers.noStore
	h["Content-Type"] = g.answers.problem
	if p.retry {
		wait := api.RetryAfter(g.cfg.RetryAfter, g.cfg.RetrySpread)
		if code == api.CodeQueueFull {
			wait += g.lineWait(c.Param("sale"))
		}
		h["Retry-After"] = []string{strconv.FormatInt(api.WholeSeconds(wait), 10)}
	}
	id := api.RequestID(c)
	g.answers.write(c, p.status, func(b []byte) []byte {
		return append(append(append(b, p.head...), id...), p.tail...)
	})
}

// answerOrder answers with an order for its owner.
func (g *Gateway) answerOrder(c *gin.Context, v order.View, drain inventory.Drain) {
	h := c.Writer.Header()
	h["Cache-Control"] = g.answers.noStore
	h["Content-Type"] = g.answers.json
	if !v.LeftLine() {
		h["Retry-After"] = g.answers.soon
	}
	g.answers.write(c, http.StatusOK, func(b []byte) []byte { return appendOrder(b, v, drain) })
}

// appendOrder writes what json.Marshal(api.OrderOf(v, drain)) would, in a fifth of the time; a test
// holds the two together.
func appendOrder(b []byte, v order.View, drain inventory.Drain) []byte {
	text := func(name, value string) {
		b = append(append(append(append(b, name...), '"'), value...), '"')
	}
	number := func(name string, n int64) { b = strconv.AppendInt(append(b, name...), n, 10) }
	moment := func(name string, t time.Time) {
		if !t.IsZero() {
			b = append(t.UTC().AppendFormat(append(append(b, name...), '"'), api.TimeFormat), '"')
		}
	}
	text(`{"order_id":`, v.ID)
	text(`,"sale_id":`, v.SaleID)
	text(`,"status":`, v.Status)
	number(`,"quantity":`, int64(v.Quantity))
	if v.Reason != "" { // the only text that may need JSON escapes
		b, _ = jsontext.AppendQuote(append(b, `,"reason":`...), v.Reason)
	}
	if !v.LeftLine() {
		number(`,"position":`, v.Position)
		number(`,"eta_seconds":`, drain.ETA(v.Position))
	}
	moment(`,"admitted_at":`, v.AdmittedAt)
	moment(`,"confirmed_at":`, v.ConfirmedAt)
	moment(`,"ended_at":`, v.EndedAt)
	moment(`,"pay_by":`, v.PayBy)
	moment(`,"paid_at":`, v.PaidAt)
	if v.Refund {
		text(`,"refund":`, api.RefundRequired)
	}
	number(`,"price_cents":`, v.PriceCents)
	text(`,"currency":`, v.Currency)
	b = append(append(append(append(b, `,"links":{"self":"/v1/sales/`...), v.SaleID...), "/orders/"...), v.ID...)
	b = append(append(append(append(b, `","events":"/v1/sales/`...), v.SaleID...), "/orders/"...), v.ID...)
	return append(b, `/events"}}`...)
}
