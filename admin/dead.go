package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/order/deadletter"
	"sluice/queue"
)

// deadLetters answers for tickets that have failed for good.
type deadLetters struct {
	saleChecker
	dead *deadletter.Admin
}

func (h *deadLetters) routes(group gin.IRoutes) {
	group.GET("/sales/:sale/dead", h.listDead)
	group.GET("/sales/:sale/dead/:id", h.showDead)
	group.POST("/sales/:sale/dead/requeue", h.requeueManyDead)
	group.POST("/sales/:sale/dead/drop", h.dropManyDead)
	group.POST("/sales/:sale/dead/:id/requeue", h.requeueDead)
	group.POST("/sales/:sale/dead/:id/drop", h.dropDead)
}

func deadBodyOf(l queue.DeadLetter) api.DeadLetter {
	t := l.Ticket
	return api.DeadLetter{OrderID: t.ID, User: t.User, Quantity: t.Units, Reason: t.Reason,
		AdmittedAt: api.FormatTime(t.AdmittedAt),
		FailedAt:   api.FormatTime(t.At), Unreadable: l.Err != nil}
}

// listDead pages through the dead letters of a sale that fit the query, newest first.
func (h *deadLetters) listDead(c *gin.Context) {
	limit, bad := api.PageSize(c)
	skip, bad := api.Skip(c, bad)
	filter, bad := letterQuery(c, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if !h.checkSale(c, c.Param("sale")) {
		return
	}
	letters, next, err := h.dead.Find(c.Request.Context(), c.Param("sale"), filter, skip, limit)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.DeadLetterList{Dead: []api.DeadLetter{}, Next: next}
	for _, l := range letters {
		list.Dead = append(list.Dead, deadBodyOf(l))
	}
	c.JSON(http.StatusOK, list)
}

func (h *deadLetters) showDead(c *gin.Context) {
	if !h.checkSale(c, c.Param("sale")) {
		return
	}
	letter, err := h.dead.Show(c.Request.Context(), c.Param("sale"), c.Param("id"))
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, deadBodyOf(letter))
}

func (h *deadLetters) requeueDead(c *gin.Context) {
	var body api.WithReason
	if !h.read(c, &body) || !h.checkSale(c, c.Param("sale")) {
		return
	}
	if err := h.dead.Requeue(c.Request.Context(), c.Param("sale"), c.Param("id"), actorOf(c), body.Reason); err != nil {
		h.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

func (h *deadLetters) dropDead(c *gin.Context) {
	var body api.WithReason
	if !h.read(c, &body) || !h.checkSale(c, c.Param("sale")) {
		return
	}
	if err := h.dead.Drop(c.Request.Context(), c.Param("sale"), c.Param("id"), actorOf(c), body.Reason); err != nil {
		h.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// letterLimit returns how many letters a change may touch.
func letterLimit(b api.DeadLetterChange) int {
	if b.Limit == nil {
		return deadletter.DefaultLetters
	}
	return *b.Limit
}

// checkLetterChange demands a choice: an empty body must not be all.
func checkLetterChange(b api.DeadLetterChange) (bad []api.FieldError) {
	if b.All != b.Filter().Any() {
		bad = append(bad, api.Field("all", "give all, or one or more of failed_reason, user, since and until"))
	}
	if letterLimit(b) < 1 || letterLimit(b) > deadletter.MaxLetters {
		bad = append(bad, api.Field("limit", "must be a whole number from 1 to 10000"))
	}
	if b.Skip < 0 {
		bad = append(bad, api.Field("skip", "must be 0 or more"))
	}
	return append(bad, checkLetterFilter(b.Filter())...)
}

func checkLetterFilter(f deadletter.Filter) (bad []api.FieldError) {
	if len(f.User) > auth.MaxUserBytes {
		bad = append(bad, api.Field("user", "must be at most 128 bytes"))
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		bad = append(bad, api.Field("until", "must be later than since"))
	}
	return bad
}

// letterQuery reads ?reason=, user, since and until, and adds to bad.
func letterQuery(c *gin.Context, bad []api.FieldError) (deadletter.Filter, []api.FieldError) {
	f := deadletter.Filter{Reason: c.Query("reason"), User: c.Query("user")}
	for name, at := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := c.Query(name)
		if text == "" {
			continue
		}
		var err error
		if *at, err = time.Parse(time.RFC3339, text); err != nil {
			bad = append(bad, api.Field(name, "must be a time such as 2026-11-11T00:00:00Z"))
		}
	}
	return f, append(bad, checkLetterFilter(f)...)
}

func (h *deadLetters) requeueManyDead(c *gin.Context) { h.changeManyDead(c, h.dead.RequeueMany) }

func (h *deadLetters) dropManyDead(c *gin.Context) { h.changeManyDead(c, h.dead.DropMany) }

// changeManyDead answers what was done also when a store ended it, as long as anything was: that stands.
func (h *deadLetters) changeManyDead(
	c *gin.Context, change func(context.Context, deadletter.Change) (deadletter.Result, error),
) {
	var body api.DeadLetterChange
	if !h.read(c, &body) {
		return
	}
	if bad := checkLetterChange(body); len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if !h.checkSale(c, c.Param("sale")) {
		return
	}
	result, err := change(c.Request.Context(), deadletter.Change{Sale: c.Param("sale"), Actor: actorOf(c),
		Reason: body.Reason, Filter: body.Filter(), Limit: letterLimit(body), Skip: body.Skip})
	if err != nil && result.Done == 0 {
		h.refuse(c, err)
		return
	}
	answer := api.DeadLetterResult{Done: result.Done, Refused: result.Refused, Refusals: []api.DeadLetterRefusal{},
		Left: result.Left, Next: result.Next}
	for _, r := range result.Refusals {
		answer.Refusals = append(answer.Refusals, api.DeadLetterRefusal{OrderID: r.ID, Code: codeOf(r.Err),
			Detail: r.Err.Error()})
	}
	if err != nil {
		h.log.Error("change of dead letters stopped", "sale", c.Param("sale"), "done", result.Done, "error", err)
		answer.Stopped = string(codeOf(err))
	}
	c.JSON(http.StatusOK, answer)
}
