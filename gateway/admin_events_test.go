package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/notify"
	"sluice/notify/channel"
)

// log opens the event log as an administrator; last is the Last-Event-ID.
func (s *stack) log(query, last string) *events {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 2*patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.opsAddr+"/admin/v1/events"+query, nil)
	require.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+s.token("root", true))
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := s.ops.Do(r)
	require.NoError(s.t, err)
	e := &events{t: s.t, resp: resp, read: bufio.NewReader(resp.Body), stop: stop}
	s.t.Cleanup(e.close)
	if resp.StatusCode == http.StatusOK {
		require.Equal(s.t, "text/event-stream", resp.Header.Get("Content-Type"))
		for range 2 { // the retry line and the empty one after it
			_, err = e.read.ReadString('\n')
			require.NoError(s.t, err)
		}
	}
	return e
}

func (s *stack) happen(event string, orders ...string) {
	s.t.Helper()
	var messages []notify.Message
	for _, id := range orders {
		messages = append(messages, notify.Message{OrderID: id, Event: event, SaleID: "phone", UserID: "ann"})
	}
	for _, r := range channel.NewStream(channel.DefaultStreamConfig().Behind("sluice"), s.rdb).
		Deliver(s.t.Context(), messages) {
		require.Equal(s.t, notify.Delivered(), r)
	}
}

// happened reads the next event and returns its entry's id.
func (e *events) happened(want string) string {
	e.t.Helper()
	one, err := e.next()
	require.NoError(e.t, err)
	require.Equal(e.t, "order", one.name)
	var body api.OrderEvent
	require.NoError(e.t, json.Unmarshal([]byte(one.data), &body))
	require.Equal(e.t, want, body.ID)
	order, kind, _ := strings.Cut(want, ":")
	require.Equal(e.t, []string{order, kind, "phone", "ann"},
		[]string{body.OrderID, body.Type, body.SaleID, body.UserID})
	return one.id
}

func TestEventLogReplaysAndFollows(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.happen(notify.EventConfirmed, "o1", "o2")
	all := s.log("?from=0", "")
	first := all.happened("o1:order.confirmed")
	all.happened("o2:order.confirmed")
	fresh := s.log("", "")
	s.happen(notify.EventRefundRequired, "o1")
	all.happened("o1:order.refund_required")
	fresh.happened("o1:order.refund_required")
	again := s.log("?from=0", first)
	again.happened("o2:order.confirmed")
	again.happened("o1:order.refund_required")
	for _, bad := range []string{"soon", "-1", "1-2-3", "99999999999999999999"} {
		s.refused(api.CodeInvalidRequest, s.admin(http.MethodGet, "/admin/v1/events?from="+bad, ""))
	}
	s.down.Store(true)
	for _, stream := range []*events{all, fresh, again} {
		bye, err := stream.next()
		require.NoError(t, err)
		require.Equal(t, "bye", bye.name)
		stream.ends()
	}
	s.refused(api.CodeUnavailable, s.admin(http.MethodGet, "/admin/v1/events", ""))
}

func TestEventLogReadsMoreThanAPage(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	orders := make([]string, 2*200+5)
	for i := range orders {
		orders[i] = newUUID()
	}
	s.happen(notify.EventPaid, orders...)
	log := s.log("?from=0", "")
	for _, id := range orders {
		log.happened(id + ":order.paid")
	}
}

func TestEventLogHasABoundOfReaders(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	var open []*events
	for range 32 {
		e := s.log("", "")
		require.Equal(t, http.StatusOK, e.resp.StatusCode)
		open = append(open, e)
	}
	s.refused(api.CodeUnavailable, s.admin(http.MethodGet, "/admin/v1/events", ""))
	open[0].close()
	require.Eventually(t, func() bool {
		e := s.log("", "")
		defer func() { _, _ = io.Copy(io.Discard, e.read) }()
		defer e.close()
		return e.resp.StatusCode == http.StatusOK
	}, patience, 250*time.Millisecond)
}

func TestEventLogSendsReadersAwayWhenRedisFails(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	log := s.log("", "")
	require.NoError(t, s.rdb.Set(t.Context(), "sluice:events", "no stream", 0).Err())
	log.ends()
	require.Equal(t, string(api.CodeInternal), s.admin(http.MethodGet, "/admin/v1/events", "").text("code"))
}
