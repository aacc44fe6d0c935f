package gateway

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/order"
)

func timelineBodyOf(t order.Timeline) api.Timeline {
	b := api.Timeline{Order: adminOrderOf(t.Order), Steps: make([]api.Step, len(t.Events))}
	for i, e := range t.Events {
		b.Steps[i] = api.Step{At: api.FormatTime(e.At), Step: e.Step, DurationMS: float64(e.Took.Microseconds()) / 1000, Attempt: e.Attempt,
			Instance: e.Instance, Actor: e.Actor, Reason: e.Reason}
	}
	return b
}

// orderTimeline tells what happened to one order.
func (o *Ops) orderTimeline(c *gin.Context) {
	t, err := o.Timelines.Of(c.Request.Context(), c.Param("id"))
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, timelineBodyOf(t))
}

const (
	defaultTimelines = 5
	mostTimelines    = 20 // each asks both stores
)

// userTimelines pages through what happened to the orders of one user, newest first.
func (o *Ops) userTimelines(c *gin.Context) {
	user, limit := c.Query("user"), defaultTimelines
	asked, bad := api.PageSize(c)
	after, bad := api.Cursor(c, order.ParseCursor, bad)
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
	timelines, page, err := o.Timelines.ByUser(c.Request.Context(), user, after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := api.TimelineList{Timelines: make([]api.Timeline, len(timelines)), Unread: api.Unread{UnreadSales: page.Unread}}
	for i, t := range timelines {
		list.Timelines[i] = timelineBodyOf(t)
	}
	if page.Next != nil {
		list.NextCursor = page.Next.String()
	}
	c.JSON(http.StatusOK, list)
}
