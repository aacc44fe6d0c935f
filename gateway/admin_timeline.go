package gateway

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"sluice/gateway/auth"
	"sluice/order"
)

// stepBody is one step of an order's way.
type stepBody struct {
	At         string  `json:"at"`
	Step       string  `json:"step"`
	DurationMS float64 `json:"duration_ms,omitempty"`
	Attempt    int     `json:"attempt,omitempty"`
	Instance   string  `json:"instance,omitempty"`
	Actor      string  `json:"actor,omitempty"`
	Reason     string  `json:"reason,omitempty"`
}

type timelineBody struct {
	Order adminOrder `json:"order"`
	Steps []stepBody `json:"steps"`
}

func timelineBodyOf(t order.Timeline) timelineBody {
	b := timelineBody{Order: adminOrderOf(t.Order), Steps: make([]stepBody, len(t.Events))}
	for i, e := range t.Events {
		b.Steps[i] = stepBody{At: formatTime(e.At), Step: e.Step, DurationMS: float64(e.Took.Microseconds()) / 1000, Attempt: e.Attempt,
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

type timelineList struct {
	Timelines  []timelineBody `json:"timelines"`
	NextCursor string         `json:"next_cursor,omitempty"`
	unreadBody
}

// userTimelines pages through what happened to the orders of one user, newest first.
func (o *Ops) userTimelines(c *gin.Context) {
	user, limit := c.Query("user"), defaultTimelines
	after, asked, bad := pageOf(c)
	if _, ok := c.GetQuery("limit"); ok {
		if limit = asked; len(bad) == 0 && limit > mostTimelines {
			bad = append(bad, FieldError{"limit", "must be a whole number from 1 to " + strconv.Itoa(mostTimelines)})
		}
	}
	if !auth.ValidUser(user) {
		bad = append(bad, FieldError{"user", "must be 1 to 128 bytes without control characters"})
	}
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	timelines, page, err := o.Timelines.ByUser(c.Request.Context(), user, after, limit)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := timelineList{Timelines: make([]timelineBody, len(timelines)), unreadBody: unreadOf(page)}
	for i, t := range timelines {
		list.Timelines[i] = timelineBodyOf(t)
	}
	if page.Next != nil {
		list.NextCursor = page.Next.String()
	}
	c.JSON(http.StatusOK, list)
}
