package admin

import (
	"encoding/json"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/internal/coalesce"
	"sluice/notify/channel"
	"sluice/notify/form"
)

const (
	maxFollowers = 32 // of the event log, in one process
	eventPage    = 200
	eventLook    = 250 * time.Millisecond // how often a follower that has caught up looks for more
)

var streamID = regexp.MustCompile(`^[0-9]{1,19}(-[0-9]{1,19})?$`)

// events streams the event log.
type events struct {
	replier
	events    *channel.Stream
	draining  func() bool
	now       func() time.Time
	followers atomic.Int64
}

func (h *events) routes(group gin.IRoutes) { group.GET("/events", h.followEvents) }

// followEvents replays the event log as server-sent events and then follows it: from the entry after Last-Event-ID or
// ?from=, or from now on without either. from=0 begins with the oldest entry that is left. Each event's id is its
// entry's.
func (h *events) followEvents(c *gin.Context) {
	after := c.GetHeader("Last-Event-ID")
	if after == "" {
		after = c.Query("from")
	}
	if after != "" && !streamID.MatchString(after) {
		api.WriteProblem(c, api.InvalidRequest(api.Field("from",
			"must be 0 or the id of an event, such as 1700000000000-0")))
		return
	}
	defer h.followers.Add(-1)
	if h.followers.Add(1) > maxFollowers || h.draining() {
		h.refuse(c, coalesce.ErrOverloaded)
		return
	}
	if after == "" {
		last, err := h.events.Last(c.Request.Context())
		if err != nil {
			h.refuse(c, err)
			return
		}
		after = last
	}
	s := api.NewEventStream(c, h.now)
	if s.Start() == nil {
		h.replay(c, s, after)
	}
}

// replay writes what follows after, until the client goes, this process drains or Redis fails; the client then comes
// back with the id of the last event it saw.
func (h *events) replay(c *gin.Context, s *api.EventStream, after string) {
	ctx := c.Request.Context()
	ticker := time.NewTicker(eventLook)
	defer ticker.Stop()
	for !h.draining() {
		entries, err := h.events.After(ctx, after, eventPage)
		if err != nil {
			h.log.Warn("event log not read, its reader is sent away", "request_id", api.RequestID(c), "error", err)
			return
		}
		for _, e := range entries {
			if s.Send("order", e.ID, dataOf(e)) != nil {
				return
			}
			after = e.ID
		}
		if len(entries) == eventPage {
			continue
		}
		if s.KeepAlive() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	s.Bye()
}

func dataOf(e channel.Entry) []byte {
	data, err := json.Marshal(form.ReadEntry(e.Fields))
	if err != nil {
		return nil // texts and numbers always marshal
	}
	return data
}
