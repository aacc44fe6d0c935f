package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
)

func TestOrderShowsEachStatusToItsOwnerOnly(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10)
	s.place("early", "phone")
	path := s.place("ann", "phone")
	id := path[strings.LastIndex(path, "/")+1:]
	before := s.view("phone")
	for _, other := range []got{s.get("bob", path), s.get("bob", path+"?wait=20s"), s.get("bob", path+"/events"),
		s.get("ann", strings.Replace(path, "phone", "other", 1))} {
		s.refused(api.CodeNotFound, other)
	}
	s.refused(api.CodeUnauthorized, s.get("", path))
	require.Equal(t, before.Seq, s.view("phone").Seq)

	g := s.get("ann", path)
	admitted, err := time.Parse(api.TimeFormat, g.text("admitted_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), admitted, time.Minute)
	require.Equal(t, 1, g.retryAfter())
	require.Equal(t, "no-store", g.header.Get("Cache-Control"))
	delete(g.body, "admitted_at")
	require.Equal(t, map[string]any{"order_id": id, "sale_id": "phone", "status": "queued", "quantity": 1.0,
		"position": 2.0, "eta_seconds": 1.0,
		"price_cents": 9900.0, "currency": "CNY", "links": map[string]any{"self": path, "events": path + "/events"}},
		g.body)

	batch, err := s.lines.Of("phone").Claim(t.Context(), "batch", 10, 50*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, batch.Tickets, 2)
	require.Equal(t, "processing", s.get("ann", path).text("status"))
	s.work() // takes the batch over when its lease has ended
	g = s.until("ann", path, "confirmed")
	require.Empty(t, g.header.Get("Retry-After"))
	require.Nil(t, g.body["position"])
	require.Nil(t, g.body["eta_seconds"])
	require.NotEmpty(t, g.text("confirmed_at"))
	require.Equal(t, "cancelled", s.do("ann", http.MethodDelete, path, "").text("status"))
	require.Equal(t, "cancelled", s.get("ann", path).text("status"))
	s.clean()
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	for _, wait := range []string{"x", "-1s", "", "10parsecs"} {
		require.Contains(t, s.refused(api.CodeInvalidRequest, s.get("ann", path+"?wait="+wait)).raw, `"field":"wait"`)
	}
	started := time.Now()
	require.Equal(t, "queued", s.get("ann", path+"?wait=300ms").text("status"), "after the wait, unchanged")
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	answered := make(chan got, 1)
	token := s.token("ann", false)
	go func() {
		g, _ := fetch(t.Context(), s.client, http.MethodGet, "http://"+s.addr+path+"?wait=20s", token, "")
		answered <- g
	}()
	require.Eventually(t, func() bool { return s.waiters() == 1 }, patience, time.Millisecond)
	started = time.Now()
	s.work()
	g := <-answered
	require.Contains(t, []string{"processing", "confirmed"}, g.text("status"), g.raw)
	require.Less(t, time.Since(started), 10*time.Second)
	s.until("ann", path, "confirmed")
	started = time.Now()
	require.Equal(t, "confirmed", s.get("ann", path+"?wait=20s").text("status"))
	require.Less(t, time.Since(started), 5*time.Second, "settled: at once")
	require.Zero(t, s.waiters())
}

func (s *stack) waiters() int {
	s.gateway.hub.mu.Lock()
	defer s.gateway.hub.mu.Unlock()
	return s.gateway.hub.count
}

// News reach a waiter at once: it does not depend on looking every second.
func TestLongPollIsWokenByNews(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 100)
	token := s.token("ann", false)
	quick := 0
	for i := range 5 {
		path := s.place("ann", "phone")
		answered := make(chan got, 1)
		go func() {
			g, _ := fetch(t.Context(), s.client, http.MethodGet, "http://"+s.addr+path+"?wait=20s", token, "")
			answered <- g
		}()
		require.Eventually(t, func() bool { return s.waiters() == 1 }, patience, time.Millisecond)
		started := time.Now()
		require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, path, "").status)
		require.Equal(t, "cancelled", (<-answered).text("status"), i)
		if time.Since(started) < lookEvery/2 {
			quick++
		}
		require.Eventually(t, func() bool { return s.waiters() == 0 }, patience, time.Millisecond)
	}
	require.GreaterOrEqual(t, quick, 4)
}

func TestWaitIsShortenedToTheLongestAllowed(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.gateway.MaxWait = time.Second })
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	started := time.Now()
	require.Equal(t, "queued", s.get("ann", path+"?wait=9999s").text("status"))
	require.WithinDuration(t, started.Add(time.Second), time.Now(), time.Second)
	started = time.Now()
	require.Equal(t, "queued", s.get("ann", path+"?wait=9223372037").text("status"), "seconds that overflow a duration")
	require.WithinDuration(t, started.Add(time.Second), time.Now(), time.Second)
	s.refused(api.CodeInvalidRequest, s.get("ann", path+"?wait=-9223372037"))
}

// events is an event stream as a client reads it.
type events struct {
	t    testing.TB
	resp *http.Response
	read *bufio.Reader
	stop context.CancelFunc
}

type event struct{ name, id, data, comment string }

func (s *stack) follow(user, path, last string) *events {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), 2*patience)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path+"/events", nil)
	require.NoError(s.t, err)
	r.Header.Set("Authorization", "Bearer "+s.token(user, false))
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := s.client.Do(r)
	require.NoError(s.t, err)
	e := &events{t: s.t, resp: resp, read: bufio.NewReader(resp.Body), stop: stop}
	s.t.Cleanup(e.close)
	if resp.StatusCode == http.StatusOK {
		require.Equal(s.t, "text/event-stream", resp.Header.Get("Content-Type"))
		require.Equal(s.t, "no", resp.Header.Get("X-Accel-Buffering"))
		require.Contains(s.t, resp.Header.Get("Cache-Control"), "no-cache")
		first, err := e.read.ReadString('\n')
		require.NoError(s.t, err)
		require.Equal(s.t, "retry: 3000\n", first)
		_, err = e.read.ReadString('\n')
		require.NoError(s.t, err)
	}
	return e
}

func (e *events) close() {
	e.stop()
	_ = e.resp.Body.Close()
}

// next reads one block; io.EOF is a stream that ended in good order.
func (e *events) next() (event, error) {
	var one event
	for {
		line, err := e.read.ReadString('\n')
		if err != nil {
			return one, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "":
			return one, nil
		case name == "event":
			one.name = value
		case name == "id":
			one.id = value
		case name == "data":
			one.data = value
		case name == "":
			one.comment = value
		default:
			return one, fmt.Errorf("unknown line %q", line)
		}
	}
}

// order reads the next event, which must be one of the order, and checks its data.
func (e *events) order(id string) map[string]any {
	e.t.Helper()
	one, err := e.next()
	require.NoError(e.t, err)
	require.Equal(e.t, "order", one.name)
	require.Equal(e.t, id, one.id)
	var data map[string]any
	require.NoError(e.t, json.Unmarshal([]byte(one.data), &data))
	require.NoError(e.t, strictDocument(e.t, api.OpenAPI()).Components.Schemas["Order"].Value.VisitJSON(data))
	return data
}

func (e *events) ends() {
	e.t.Helper()
	_, err := e.next()
	require.ErrorIs(e.t, err, io.EOF)
}

func TestEventsFollowAnOrderOutOfTheLine(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10)
	s.place("early", "phone")
	path := s.place("ann", "phone")
	stream := s.follow("ann", path, "")
	require.EqualValues(t, 2, stream.order("queued:2")["position"])
	line := s.lines.Of("phone")
	_, err := line.Claim(t.Context(), "one", 1, 50*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.order("queued:1")["position"])
	_, err = line.Claim(t.Context(), "two", 1, 50*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, "processing", stream.order("processing")["status"])

	// A client that comes back hears only what is new.
	resumed := s.follow("ann", path, "processing")
	stale := s.follow("ann", path, "queued:2")
	require.Equal(t, "processing", stale.order("processing")["status"])
	s.work()
	for _, one := range []*events{stream, resumed, stale} {
		require.Equal(t, "confirmed", one.order("confirmed")["status"])
		one.ends()
	}
	late := s.follow("ann", path, "processing")
	late.order("confirmed")
	late.ends()
	over := s.follow("ann", path, "confirmed")
	require.Equal(t, http.StatusNoContent, over.resp.StatusCode, "do not come back")
	require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, path, "").status)
	after := s.follow("ann", path, "confirmed")
	after.order("cancelled")
	after.ends()
	require.Eventually(t, func() bool { return s.waiters() == 0 }, patience, time.Millisecond)
}

func TestEventsKeepAliveSayByeAndLeaveNothing(t *testing.T) {
	t.Parallel()
	var skew atomic.Int64
	s := newStack(t, func(c *setup) { c.now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) } })
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	stream := s.follow("ann", path, "")
	stream.order("queued:1")
	for range 2 {
		skew.Add(int64(api.Heartbeat))
		one, err := stream.next()
		require.NoError(t, err)
		require.Equal(t, event{comment: "keepalive"}, one)
	}
	gone := s.follow("ann", path, "")
	gone.order("queued:1")
	require.Equal(t, 2, s.waiters())
	gone.close()
	require.Eventually(t, func() bool {
		return s.waiters() == 1
	}, patience, time.Millisecond, "a client that left is forgotten")
	s.gateway.Drain()
	one, err := stream.next()
	require.NoError(t, err)
	require.Equal(t, event{name: "bye", data: "{}"}, one)
	stream.ends()
	require.Eventually(t, func() bool { return s.waiters() == 0 }, patience, time.Millisecond)
	late := s.follow("ann", path, "")
	late.order("queued:1")
	one, err = late.next()
	require.NoError(t, err)
	require.Equal(t, "bye", one.name)
}

// The write deadline of the server is far shorter than a stream lives.
func TestEventsOutliveTheWriteTimeout(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) {
		c.http.ReadHeaderTimeout, c.http.ReadTimeout, c.http.WriteTimeout = 100*time.Millisecond, 200*time.Millisecond,
			300*time.Millisecond
	})
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	stream := s.follow("ann", path, "")
	stream.order("queued:1")
	token := s.token("ann", false)
	g, err := fetch(t.Context(), s.client, http.MethodGet, "http://"+s.addr+path+"?wait=1200ms", token, "")
	require.NoError(t, err)
	require.Equal(t, "queued", g.text("status"), "nor is a long poll cut off")
	require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, path, "").status)
	stream.order("cancelled")
	stream.ends()
}

func TestHubIsBoundedAndForgets(t *testing.T) {
	t.Parallel()
	h := newHub(nil, 2)
	first, leaveFirst, ok := h.wait("a")
	require.True(t, ok)
	second, leaveSecond, ok := h.wait("a")
	require.True(t, ok)
	_, _, ok = h.wait("b")
	require.False(t, ok)
	h.tell("a")
	h.tell("a") // a waiter that has not looked yet is not waited for
	h.tell("b")
	<-first
	<-second
	leaveFirst()
	h.tell("a")
	<-second
	require.Empty(t, first)
	_, leaveThird, ok := h.wait("b")
	require.True(t, ok)
	leaveSecond()
	leaveThird()
	require.Empty(t, h.waiters)
	require.Zero(t, h.count)
}

func TestMoreWaitersThanAllowedAreToldToComeBack(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10)
	path := s.place("ann", "phone")
	s.gateway.hub.most = 0
	s.refused(api.CodeUnavailable, s.get("ann", path+"?wait=5s"))
	require.Equal(t, "queued", s.get("ann", path).text("status"))
}
