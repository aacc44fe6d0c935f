package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/gateway/auth"
	"sluice/order"
)

// lettersBody changes many dead letters of a sale: all, or those that fit.
type lettersBody struct {
	All          bool      `json:"all"`
	FailedReason string    `json:"failed_reason"` // why they failed
	User         string    `json:"user"`
	Since        time.Time `json:"since"` // failed at this time or later
	Until        time.Time `json:"until"` // failed before this time
	Limit        *int      `json:"limit"` // 1,000 unless it is said
	Skip         int64     `json:"skip"`  // next of the answer before
	reasonBody
}

// lettersAnswer says what became of them.
type lettersAnswer struct {
	Done     int           `json:"done"`
	Refused  int           `json:"refused"`
	Refusals []refusalBody `json:"refusals"` // the first 100
	Left     int           `json:"left"`     // that fit and were not tried
	Next     int64         `json:"next"`     // skip of the next call
	Stopped  string        `json:"stopped,omitempty"`
}

type refusalBody struct {
	OrderID string `json:"order_id"`
	Code    Code   `json:"code"`
	Detail  string `json:"detail"`
}

func (b lettersBody) filter() order.LetterFilter {
	return order.LetterFilter{Reason: b.FailedReason, User: b.User, Since: b.Since, Until: b.Until}
}

func (b lettersBody) limit() int {
	if b.Limit == nil {
		return order.DefaultLetters
	}
	return *b.Limit
}

// check demands a choice: an empty body must not be all.
func (b lettersBody) check() (bad []FieldError) {
	if b.All != b.filter().Any() {
		bad = append(bad, FieldError{"all", "give all, or one or more of failed_reason, user, since and until"})
	}
	if b.limit() < 1 || b.limit() > order.MostLetters {
		bad = append(bad, FieldError{"limit", "must be a whole number from 1 to 10000"})
	}
	if b.Skip < 0 {
		bad = append(bad, FieldError{"skip", "must be 0 or more"})
	}
	return append(bad, checkLetterFilter(b.filter())...)
}

func checkLetterFilter(f order.LetterFilter) (bad []FieldError) {
	if len(f.User) > auth.MaxUserBytes {
		bad = append(bad, FieldError{"user", "must be at most 128 bytes"})
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		bad = append(bad, FieldError{"until", "must be later than since"})
	}
	return bad
}

// letterQuery reads ?reason=, user, since and until, and adds to bad.
func letterQuery(c *gin.Context, bad []FieldError) (order.LetterFilter, []FieldError) {
	f := order.LetterFilter{Reason: c.Query("reason"), User: c.Query("user")}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := c.Query(name)
		if text == "" {
			continue
		}
		var err error
		if *at, err = time.Parse(time.RFC3339, text); err != nil {
			bad = append(bad, FieldError{name, "must be a time such as 2026-11-11T00:00:00Z"})
		}
	}
	return f, append(bad, checkLetterFilter(f)...)
}

func (o *Ops) requeueManyDead(c *gin.Context) { o.changeManyDead(c, o.Dead.RequeueMany) }

func (o *Ops) dropManyDead(c *gin.Context) { o.changeManyDead(c, o.Dead.DropMany) }

// changeManyDead answers what was done also when a store ended it, as long as anything was: that stands.
func (o *Ops) changeManyDead(
	c *gin.Context, change func(context.Context, order.LetterChange) (order.LetterResult, error),
) {
	var body lettersBody
	if !o.read(c, &body) {
		return
	}
	if bad := body.check(); len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	if !o.checkSale(c, c.Param("sale")) {
		return
	}
	result, err := change(c.Request.Context(), order.LetterChange{Sale: c.Param("sale"), Actor: actorOf(c),
		Reason: body.Reason, Filter: body.filter(), Limit: body.limit(), Skip: body.Skip})
	if err != nil && result.Done == 0 {
		o.refuse(c, err)
		return
	}
	answer := lettersAnswer{Done: result.Done, Refused: result.Refused, Refusals: []refusalBody{},
		Left: result.Left, Next: result.Next}
	for _, r := range result.Refusals {
		answer.Refusals = append(answer.Refusals, refusalBody{r.ID, codeOf(r.Err), r.Err.Error()})
	}
	if err != nil {
		o.log.Error("change of dead letters stopped", "sale", c.Param("sale"), "done", result.Done, "error", err)
		answer.Stopped = string(codeOf(err))
	}
	c.JSON(http.StatusOK, answer)
}
