package gateway

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
	"sluice/queue"
)

func deadBodyOf(l queue.DeadLetter) api.DeadLetter {
	t := l.Ticket
	return api.DeadLetter{OrderID: t.ID, User: t.User, Quantity: t.Units, Reason: t.Reason, AdmittedAt: api.FormatTime(t.AdmittedAt),
		FailedAt: api.FormatTime(t.At), Unreadable: l.Err != nil}
}

// listDead pages through the dead letters of a sale that fit the query, newest first.
func (o *Ops) listDead(c *gin.Context) {
	limit, bad := api.PageSize(c)
	skip, bad := api.Skip(c, bad)
	filter, bad := letterQuery(c, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if !o.checkSale(c, c.Param("sale")) {
		return
	}
	letters, next, err := o.Dead.Find(c.Request.Context(), c.Param("sale"), filter, skip, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := api.DeadLetterList{Dead: []api.DeadLetter{}, Next: next}
	for _, l := range letters {
		list.Dead = append(list.Dead, deadBodyOf(l))
	}
	c.JSON(http.StatusOK, list)
}

func (o *Ops) showDead(c *gin.Context) {
	if !o.checkSale(c, c.Param("sale")) {
		return
	}
	letter, err := o.Dead.Show(c.Request.Context(), c.Param("sale"), c.Param("id"))
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, deadBodyOf(letter))
}

func (o *Ops) requeueDead(c *gin.Context) {
	var body api.WithReason
	if !o.read(c, &body) || !o.checkSale(c, c.Param("sale")) {
		return
	}
	if err := o.Dead.Requeue(c.Request.Context(), c.Param("sale"), c.Param("id"), actorOf(c), body.Reason); err != nil {
		o.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

func (o *Ops) dropDead(c *gin.Context) {
	var body api.WithReason
	if !o.read(c, &body) || !o.checkSale(c, c.Param("sale")) {
		return
	}
	if err := o.Dead.Drop(c.Request.Context(), c.Param("sale"), c.Param("id"), actorOf(c), body.Reason); err != nil {
		o.refuse(c, err)
		return
	}
	c.Status(http.StatusNoContent)
}

// rebuild brings a line back into agreement with the ledger at an operator's
// word; keepers do it by themselves when they notice.
func (o *Ops) rebuild(c *gin.Context) {
	var body api.WithReason
	if !o.read(c, &body) {
		return
	}
	ctx, sale := c.Request.Context(), c.Param("sale")
	known, stock, err := o.Catalog.Get(ctx, sale)
	if err != nil {
		o.refuse(c, err)
		return
	}
	before, err := o.Lines.Of(sale).View(ctx)
	if err != nil {
		o.refuse(c, err)
		return
	}
	act := adminlog.Act{Actor: actorOf(c), Action: "line.rebuild", Sale: sale, Target: sale, Reason: body.Reason}
	err = o.AdminLog.RecordChange(ctx, act, lineImageOf(before), unchanged, func(ctx context.Context) (any, error) {
		if err := o.Keeper.Rebuild(ctx, sale); err != nil {
			return nil, err
		}
		after, err := o.Lines.Of(sale).View(ctx)
		if err != nil {
			return adminlog.Outcome{Outcome: "rebuilt"}, nil // what it looks like now is not known, that it was rebuilt is
		}
		return lineImageOf(after), nil
	})
	if err != nil {
		o.refuse(c, err)
		return
	}
	o.answerChange(c, http.StatusOK, known, stock)
}

// lineImage is a line as the admin log shows it.
type lineImage struct {
	Exists bool  `json:"exists"`
	Epoch  int64 `json:"epoch"`
	Stock  int64 `json:"stock"`
	Depth  int64 `json:"depth"`
	Leased int64 `json:"leased_batches"`
	Dead   int64 `json:"dead"`
}

func lineImageOf(v queue.View) lineImage {
	return lineImage{v.Exists, v.Epoch, v.Stock, v.Waiting, v.Leased, v.Dead}
}
