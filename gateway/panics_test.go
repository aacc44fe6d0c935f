package gateway_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/coalesce"
	"sluice/internal/testkit/stack"
	"sluice/queue"
)

// caught is how many panics of a part the stack's gateway has survived.
func (s *world) caught(part string) float64 {
	return testutil.ToFloat64(s.Gateway.Panics.Counter(part))
}

// A panic in a call that many share fails their requests, says where it was, and leaves the next ones alone.
func TestAPanicInASharedCallFailsItsRequestsOnly(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 100)
	a := s.Gateway.Admitter()
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
	first := make(chan stack.Answer, 1)
	token := s.Token("ann", false)
	post := func(token string) stack.Answer {
		g, err := s.TryOrder(context.Background(), token, "phone", "")
		if err != nil {
			t.Error(err)
		}
		return g
	}
	go func() { first <- post(token) }()
	<-reached
	const shoppers = 20
	answers := make(chan stack.Answer, shoppers)
	var all sync.WaitGroup
	for range shoppers {
		token := s.Token(stack.NewUUID(), false)
		all.Go(func() { answers <- post(token) })
	}
	require.Eventually(t, func() bool {
		return a.Coalescer.Waiting("phone") == shoppers
	}, stack.Patience, time.Millisecond)
	close(release)
	require.Equal(t, http.StatusAccepted, (<-first).Status)
	all.Wait()
	for range shoppers {
		require.NotEmpty(t, s.Refused(api.CodeUnavailable, <-answers).Header.Get("Retry-After"))
	}
	require.EqualValues(t, 1, s.caught("admission"))
	s.Place("bob", "phone")
	s.Clean()
}
