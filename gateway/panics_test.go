package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/admin"
	"sluice/api"
	"sluice/internal/coalesce"
	"sluice/queue"
)

// caught is how many panics of a part the stack's gateway has survived.
func (s *stack) caught(part string) float64 {
	return testutil.ToFloat64(s.gateway.Panics.Counter(part))
}

// A panic in a call that many share fails their requests, says where it was, and leaves the next ones alone.
func TestAPanicInASharedCallFailsItsRequestsOnly(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 100)
	a := s.gateway.admission
	a.Coalescer.Timeout = time.Hour // the test, not the time, says how long a call hangs
	send := a.Coalescer.Send
	reached, release := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	a.Coalescer.Send = func(ctx context.Context, batches []coalesce.Batch[queue.Request, *queue.Admission]) {
		switch calls.Add(1) {
		case 1: // the first caller's own: the others gather behind it
			close(reached)
			<-release
		case 2: // on a goroutine of its own
			panic("a defect")
		}
		send(context.WithoutCancel(ctx), batches)
	}
	first := make(chan got, 1)
	token := s.token("ann", false)
	post := func(token string) got {
		g, err := fetch(context.Background(), s.client, http.MethodPost, "http://"+s.addr+"/v1/sales/phone/orders",
			token, "")
		if err != nil {
			t.Error(err)
		}
		return g
	}
	go func() { first <- post(token) }()
	<-reached
	const shoppers = 20
	answers := make(chan got, shoppers)
	var all sync.WaitGroup
	for range shoppers {
		token := s.token(newUUID(), false)
		all.Go(func() { answers <- post(token) })
	}
	require.Eventually(t, func() bool {
		return a.Coalescer.Waiting("phone") == shoppers
	}, patience, time.Millisecond)
	close(release)
	require.Equal(t, http.StatusAccepted, (<-first).status)
	all.Wait()
	for range shoppers {
		require.NotEmpty(t, s.refused(api.CodeUnavailable, <-answers).header.Get("Retry-After"))
	}
	require.EqualValues(t, 1, s.caught("admission"))
	s.place("bob", "phone")
	s.clean()
}

// A check that panics is a check that fails.
func TestReadinessSurvivesAPanic(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet, func(c *setup) {
		c.checks = []admin.Check{{Name: "good", Ask: func(context.Context) error {
			return nil
		}}, {Name: "bad", Ask: func(context.Context) error { panic("a defect") }}}
	})
	w := httptest.NewRecorder()
	s.opsEngine.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "[+]good ok")
	require.Contains(t, w.Body.String(), "[-]bad: the check broke")
}
