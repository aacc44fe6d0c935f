package gateway_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/internal/testkit/stack"
)

func TestOrderShowsEachStatusToItsOwnerOnly(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	s.Place("early", "phone")
	path := s.Place("ann", "phone")
	id := path[strings.LastIndex(path, "/")+1:]
	before := s.View("phone")
	for _, other := range []stack.Answer{s.Get("bob", path), s.Get("bob", path+"?wait=20s"),
		s.Get("bob", path+"/events"), s.Get("ann", strings.Replace(path, "phone", "other", 1))} {
		s.Refused(api.CodeNotFound, other)
	}
	s.Refused(api.CodeUnauthorized, s.Get("", path))
	require.Equal(t, before.Seq, s.View("phone").Seq)

	g := s.Get("ann", path)
	admitted, err := time.Parse(api.TimeFormat, g.Text("admitted_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), admitted, time.Minute)
	require.Equal(t, 1, g.RetryAfter())
	require.Equal(t, "no-store", g.Header.Get("Cache-Control"))
	delete(g.Body, "admitted_at")
	require.Equal(t, map[string]any{"order_id": id, "sale_id": "phone", "status": "queued", "quantity": 1.0,
		"position": 2.0, "eta_seconds": 1.0,
		"price_cents": 9900.0, "currency": "CNY", "links": map[string]any{"self": path, "events": path + "/events"}},
		g.Body)

	batch, err := s.Lines.Of("phone").Claim(t.Context(), "batch", 10, 50*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, batch.Tickets, 2)
	require.Equal(t, "processing", s.Get("ann", path).Text("status"))
	s.Work() // takes the batch over when its lease has ended
	g = s.Until("ann", path, "confirmed")
	require.Empty(t, g.Header.Get("Retry-After"))
	require.Nil(t, g.Body["position"])
	require.Nil(t, g.Body["eta_seconds"])
	require.NotEmpty(t, g.Text("confirmed_at"))
	require.Equal(t, "cancelled", s.Do("ann", http.MethodDelete, path, "").Text("status"))
	require.Equal(t, "cancelled", s.Get("ann", path).Text("status"))
	s.Clean()
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	for _, wait := range []string{"x", "-1s", "", "10parsecs"} {
		require.Contains(t, s.Refused(api.CodeInvalidRequest, s.Get("ann", path+"?wait="+wait)).Raw, `"field":"wait"`)
	}
	started := time.Now()
	require.Equal(t, "queued", s.Get("ann", path+"?wait=300ms").Text("status"), "after the wait, unchanged")
	require.GreaterOrEqual(t, time.Since(started), 300*time.Millisecond)
	answered := make(chan stack.Answer, 1)
	token := s.Token("ann", false)
	go func() {
		g, _ := s.TryGet(t.Context(), token, path+"?wait=20s")
		answered <- g
	}()
	require.Eventually(t, func() bool { return s.Gateway.Waiting() == 1 }, stack.Patience, time.Millisecond)
	started = time.Now()
	s.Work()
	g := <-answered
	require.Contains(t, []string{"processing", "confirmed"}, g.Text("status"), g.Raw)
	require.Less(t, time.Since(started), 10*time.Second)
	s.Until("ann", path, "confirmed")
	started = time.Now()
	require.Equal(t, "confirmed", s.Get("ann", path+"?wait=20s").Text("status"))
	require.Less(t, time.Since(started), 5*time.Second, "settled: at once")
	require.Zero(t, s.Gateway.Waiting())
}

// News reach a waiter at once: it does not depend on looking every second.
func TestLongPollIsWokenByNews(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 100)
	token := s.Token("ann", false)
	quick := 0
	for i := range 5 {
		path := s.Place("ann", "phone")
		answered := make(chan stack.Answer, 1)
		go func() {
			g, _ := s.TryGet(t.Context(), token, path+"?wait=20s")
			answered <- g
		}()
		require.Eventually(t, func() bool { return s.Gateway.Waiting() == 1 }, stack.Patience, time.Millisecond)
		started := time.Now()
		require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, path, "").Status)
		require.Equal(t, "cancelled", (<-answered).Text("status"), i)
		if time.Since(started) < gateway.LookEvery/2 {
			quick++
		}
		require.Eventually(t, func() bool { return s.Gateway.Waiting() == 0 }, stack.Patience, time.Millisecond)
	}
	require.GreaterOrEqual(t, quick, 4)
}

func TestWaitIsShortenedToTheLongestAllowed(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) { c.Gateway.MaxWait = time.Second })
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	started := time.Now()
	require.Equal(t, "queued", s.Get("ann", path+"?wait=9999s").Text("status"))
	require.WithinDuration(t, started.Add(time.Second), time.Now(), time.Second)
	started = time.Now()
	require.Equal(t, "queued", s.Get("ann", path+"?wait=9223372037").Text("status"), "seconds that overflow a duration")
	require.WithinDuration(t, started.Add(time.Second), time.Now(), time.Second)
	s.Refused(api.CodeInvalidRequest, s.Get("ann", path+"?wait=-9223372037"))
}

func TestEventsFollowAnOrderOutOfTheLine(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	s.Place("early", "phone")
	path := s.Place("ann", "phone")
	stream := s.Follow("ann", path, "")
	require.EqualValues(t, 2, stream.Order("queued:2")["position"])
	line := s.Lines.Of("phone")
	_, err := line.Claim(t.Context(), "one", 1, 50*time.Millisecond)
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.Order("queued:1")["position"])
	_, err = line.Claim(t.Context(), "two", 1, 50*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, "processing", stream.Order("processing")["status"])

	// A client that comes back hears only what is new.
	resumed := s.Follow("ann", path, "processing")
	stale := s.Follow("ann", path, "queued:2")
	require.Equal(t, "processing", stale.Order("processing")["status"])
	s.Work()
	for _, one := range []*stack.Events{stream, resumed, stale} {
		require.Equal(t, "confirmed", one.Order("confirmed")["status"])
		one.Ends()
	}
	late := s.Follow("ann", path, "processing")
	late.Order("confirmed")
	late.Ends()
	over := s.Follow("ann", path, "confirmed")
	require.Equal(t, http.StatusNoContent, over.Resp.StatusCode, "do not come back")
	require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, path, "").Status)
	after := s.Follow("ann", path, "confirmed")
	after.Order("cancelled")
	after.Ends()
	require.Eventually(t, func() bool { return s.Gateway.Waiting() == 0 }, stack.Patience, time.Millisecond)
}

func TestEventsKeepAliveSayByeAndLeaveNothing(t *testing.T) {
	t.Parallel()
	var skew atomic.Int64
	s := newWorld(t, func(c *stack.Setup) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	})
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	stream := s.Follow("ann", path, "")
	stream.Order("queued:1")
	for range 2 {
		skew.Add(int64(api.Heartbeat))
		one, err := stream.Next()
		require.NoError(t, err)
		require.Equal(t, stack.Event{Comment: "keepalive"}, one)
	}
	gone := s.Follow("ann", path, "")
	gone.Order("queued:1")
	require.Equal(t, 2, s.Gateway.Waiting())
	gone.Close()
	require.Eventually(t, func() bool {
		return s.Gateway.Waiting() == 1
	}, stack.Patience, time.Millisecond, "a client that left is forgotten")
	s.Gateway.Drain()
	one, err := stream.Next()
	require.NoError(t, err)
	require.Equal(t, stack.Event{Name: "bye", Data: "{}"}, one)
	stream.Ends()
	require.Eventually(t, func() bool { return s.Gateway.Waiting() == 0 }, stack.Patience, time.Millisecond)
	late := s.Follow("ann", path, "")
	late.Order("queued:1")
	one, err = late.Next()
	require.NoError(t, err)
	require.Equal(t, "bye", one.Name)
}

// The write deadline of the server is far shorter than a stream lives.
func TestEventsOutliveTheWriteTimeout(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.HTTP.ReadHeaderTimeout, c.HTTP.ReadTimeout, c.HTTP.WriteTimeout = 100*time.Millisecond, 200*time.Millisecond,
			300*time.Millisecond
	})
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	stream := s.Follow("ann", path, "")
	stream.Order("queued:1")
	token := s.Token("ann", false)
	g, err := s.TryGet(t.Context(), token, path+"?wait=1200ms")
	require.NoError(t, err)
	require.Equal(t, "queued", g.Text("status"), "nor is a long poll cut off")
	require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, path, "").Status)
	stream.Order("cancelled")
	stream.Ends()
}

func TestMoreWaitersThanAllowedAreToldToComeBack(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	path := s.Place("ann", "phone")
	s.Gateway.BoundWaiters(0)
	s.Refused(api.CodeUnavailable, s.Get("ann", path+"?wait=5s"))
	require.Equal(t, "queued", s.Get("ann", path).Text("status"))
}
