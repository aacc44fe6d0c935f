package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
	"sluice/inventory/audit"
	"sluice/queue"
)

// changes answers for what was changed by whom, and whether all stores agree.
type changes struct {
	replier
	adminLog *adminlog.Log
	auditor  *audit.Auditor
}

func (h *changes) routes(group gin.IRoutes) {
	group.GET("/log", h.listLog)
	group.GET("/audit", h.audit)
}

// listLog pages through the admin log, newest first.
func (h *changes) listLog(c *gin.Context) {
	limit, bad := api.PageSize(c)
	only := adminlog.Filter{Sale: c.Query("sale"), Actor: c.Query("actor"), Action: c.Query("action"),
		Target: c.Query("target")}
	check := func(ok bool, field, detail string) {
		if !ok {
			bad = append(bad, api.Field(field, detail))
		}
	}
	check(only.Sale == "" || queue.ValidSaleID(only.Sale), "sale", "must be the id of a sale")
	for field, value := range map[string]string{"actor": only.Actor, "target": only.Target} {
		check(len(value) <= 128 && api.Printable(value), field, "must be at most 128 bytes without control characters")
	}
	check(len(only.Action) <= 64 && strings.Trim(only.Action, "abcdefghijklmnopqrstuvwxyz._") == "", "action",
		"must be the name of an action, or its part before a dot")
	if text := c.Query("since"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		only.Since = since
		check(err == nil, "since", "must be a time such as 2027-06-01T20:00:00Z")
	}
	before := int64(0)
	if text := c.Query("cursor"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		before = n
		check(err == nil && n > 0, "cursor", "must be the next_cursor of an earlier page")
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	entries, err := h.adminLog.List(c.Request.Context(), only, before, limit+1)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.LogList{Entries: []api.LogEntry{}}
	if len(entries) > limit {
		entries = entries[:limit]
		list.NextCursor = strconv.FormatInt(entries[limit-1].ID, 10)
	}
	for _, e := range entries {
		list.Entries = append(list.Entries, api.LogEntry{ID: e.ID, At: api.FormatTime(time.UnixMilli(e.At)),
			Actor: e.Actor, Action: e.Action, SaleID: e.SaleID,
			Target: e.Target, Reason: e.Reason, Before: json.RawMessage(e.BeforeValue),
			After: json.RawMessage(e.AfterValue)})
	}
	c.JSON(http.StatusOK, list)
}

func (h *changes) audit(c *gin.Context) {
	result, err := h.auditor.Run(c.Request.Context(), c.Query("sale"))
	if err != nil {
		h.refuse(c, err)
		return
	}
	if result.Verdict == audit.Unknown && result.Away != nil {
		h.refuseWith(c, result.Away, result)
		return
	}
	c.JSON(http.StatusOK, result)
}

// rebuilds brings lines back into agreement with the ledger.
type rebuilds struct {
	*sales
	queue    *queue.Lines
	adminLog *adminlog.Log
}

func (h *rebuilds) routes(group gin.IRoutes) { group.POST("/sales/:sale/rebuild", h.rebuild) }

// rebuild brings a line back into agreement with the ledger at an operator's word. Reconcilers do
// it by themselves when they notice.
func (h *rebuilds) rebuild(c *gin.Context) {
	var body api.WithReason
	if !h.read(c, &body) {
		return
	}
	ctx, sale := c.Request.Context(), c.Param("sale")
	known, stock, err := h.saleStore.Get(ctx, sale)
	if err != nil {
		h.refuse(c, err)
		return
	}
	before, err := h.queue.Of(sale).View(ctx)
	if err != nil {
		h.refuse(c, err)
		return
	}
	act := adminlog.Act{Actor: actorOf(c), Action: "line.rebuild", Sale: sale, Target: sale, Reason: body.Reason}
	err = h.adminLog.RecordChange(ctx, act, lineImageOf(before), unchanged, func(ctx context.Context) (any, error) {
		if err := h.reconciler.Rebuild(ctx, sale); err != nil {
			return nil, err
		}
		after, err := h.queue.Of(sale).View(ctx)
		if err != nil {
			// what it looks like now is not known, that it was rebuilt is
			return adminlog.Outcome{Outcome: "rebuilt"}, nil
		}
		return lineImageOf(after), nil
	})
	if err != nil {
		h.refuse(c, err)
		return
	}
	h.answerChange(c, http.StatusOK, known, stock)
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
