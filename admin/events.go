package admin

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/internal/coalesce"
	"sluice/notify"
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

// followEvents replays the event log as server-sent events, and then follows it. It begins behind Last-Event-ID or
// ?from=, or now without either. With 0 it begins with the oldest entry that is left. Each event's id is its entry's.
// The first block has an id only: where a client that has seen no event comes back to.
func (h *events) followEvents(c *gin.Context) {
	after := c.GetHeader("Last-Event-ID")
	if after == "" {
		after = c.Query("from")
	}
	wanted, bad := readEventFilter(c)
	if after != "" && !streamID.MatchString(after) {
		bad = append(bad, api.Field("from", "must be 0 or the id of an event, such as 1700000000000-0"))
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
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
	if s.Start() == nil && s.Place(after) == nil {
		h.replay(c, s, &replay{after: after, told: after, wanted: wanted})
	}
}

// replay is how far one follower is.
type replay struct {
	after  string // the last entry that was looked at
	told   string // the last that the follower has heard of
	wanted eventFilter
}

// send writes those of the entries that are wanted.
func (r *replay) send(s *api.EventStream, entries []channel.Entry) error {
	for _, e := range entries {
		r.after = e.ID
		event := form.ReadEntry(e.Fields)
		if !r.wanted.takes(event) {
			continue
		}
		data, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if err := s.Send("order", e.ID, data); err != nil {
			return err
		}
		r.told = e.ID
	}
	return nil
}

// keepAlive keeps the stream open. A follower who wants few events hears how far it is.
func (r *replay) keepAlive(s *api.EventStream) error {
	if r.told != r.after && s.Quiet() {
		r.told = r.after
		return s.Place(r.after)
	}
	return s.KeepAlive()
}

// replay writes what follows, until the client goes, this process drains or Redis fails. The client then comes back
// with the id of the last event it saw.
func (h *events) replay(c *gin.Context, s *api.EventStream, r *replay) {
	ctx := c.Request.Context()
	ticker := time.NewTicker(eventLook)
	defer ticker.Stop()
	for !h.draining() {
		entries, err := h.events.After(ctx, r.after, eventPage)
		if err != nil {
			h.log.Warn("event log not read, its reader is sent away", "request_id", api.RequestID(c), "error", err)
			return
		}
		if r.send(s, entries) != nil || r.keepAlive(s) != nil {
			return
		}
		if len(entries) == eventPage {
			continue
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	s.Bye()
}

// maxFilter bounds how many events, and how many patterns of sales, a follower names.
const maxFilter = 20

// eventFilter is what a follower of the event log wants; an empty list is all.
type eventFilter struct {
	events []string
	sales  []string // patterns, as of path.Match
}

// readEventFilter reads ?event= and ?sale=, each of which may come several times.
func readEventFilter(c *gin.Context) (eventFilter, []api.FieldError) {
	f := eventFilter{events: c.QueryArray("event"), sales: c.QueryArray("sale")}
	var bad []api.FieldError
	for _, event := range f.events {
		if !slices.Contains(notify.Events(), event) {
			bad = append(bad, api.Field("event", fmt.Sprintf("must be one of %v", notify.Events())))
			break
		}
	}
	for _, sale := range f.sales {
		if _, err := path.Match(sale, ""); err != nil || sale == "" {
			bad = append(bad, api.Field("sale", "must be a sale's id, with * ? [a-z] for parts"))
			break
		}
	}
	if len(f.events) > maxFilter || len(f.sales) > maxFilter {
		bad = append(bad, api.Field("event", fmt.Sprintf("and sale must each come %d times at most", maxFilter)))
	}
	return f, bad
}

func (f eventFilter) takes(e form.Entry) bool {
	return (len(f.events) == 0 || slices.Contains(f.events, e.Type)) &&
		(len(f.sales) == 0 || slices.ContainsFunc(f.sales, func(pattern string) bool {
			matched, err := path.Match(pattern, e.SaleID)
			return err == nil && matched
		}))
}
