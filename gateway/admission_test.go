package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/gateway/admission"
	"sluice/internal/coalesce"
	"sluice/internal/testkit/stack"
	"sluice/queue"
)

// One line's trouble is not the others': here the call for one sale never
// returns, while the next sale is served.
func TestSlowAdmissionDelaysItsOwnSaleOnly(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("stuck", 5)
	s.Sell("phone", 5)
	a := s.Gateway.Admitter()
	reached, release := hangFirst(a, "stuck")
	stuck := make(chan error, 1)
	go func() {
		_, err := a.Admit(context.Background(), "stuck", queue.Request{ID: "a", User: "ann", Units: 1})
		stuck <- err
	}()
	<-reached
	s.Place("bob", "phone")
	select {
	case err := <-stuck:
		require.Fail(t, "the stuck sale answered", "%v", err)
	default:
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Gateway.Drain()
	}()
	require.Eventually(t, s.Gateway.Draining, stack.Patience, time.Millisecond)
	select {
	case <-drained:
		require.Fail(t, "drained while an admission was in flight")
	default:
	}
	close(release)
	require.NoError(t, <-stuck)
	<-drained
}

// hangFirst keeps the first call for a sale from being sent until release is closed; reached says that it has begun.
func hangFirst(a *admission.Admitter, sale string) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	send := a.Coalescer.Send
	a.Coalescer.Send = func(ctx context.Context, batches []coalesce.Batch[queue.Request, *queue.Admission]) {
		if batches[0].Key == sale {
			once.Do(func() {
				close(reached)
				<-release
			})
		}
		send(context.WithoutCancel(ctx), batches) // the test, not the time, says how long it hangs
	}
	return reached, release
}

func TestAdmissionCounts(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 1)
	s.Place("ann", "phone")
	s.Refused(api.CodeSoldOut, s.Order("bob", "phone", ""))
	s.Refused(api.CodeLimitReached, s.Order("ann", "phone", ""))
	s.Refused(api.CodeInvalidRequest, s.Order("ann", "phone", "{"))
	s.Refused(api.CodeUnauthorized, s.Order("", "phone", ""))
	for _, made := range []string{"up-1", "up-2", "a%0A"} {
		s.Refused(api.CodeNotFound, s.Order("ann", made, ""))
	}
	require.Equal(t, map[string]float64{"phone": 1}, s.series("sluice_orders_admitted_total"))
	require.Equal(t, map[string]float64{"sold_out phone": 1, "limit_reached phone": 1, "invalid_request phone": 1,
		"unauthorized phone": 1, "not_found unknown": 3}, s.series("sluice_orders_rejected_total"),
		"made-up ids make no series")
}

// Through gateway, script and Redis: who came first stands first, although the crowd waits for a
// call that hangs and needs several, and the crowd of one sale keeps nobody of another waiting.
func TestFirstComeFirstServedInACrowd(t *testing.T) {
	t.Parallel()
	const shoppers = 2*queue.MaxAdmit + 50
	s := newWorld(t)
	s.Sell("hot", 1000)
	s.Sell("quiet", 5)
	a := s.Gateway.Admitter()
	reached, release := hangFirst(a, "hot")
	seqs := make([]int64, shoppers+1)
	var all sync.WaitGroup
	admit := func(sale string, i int) {
		id := stack.NewUUID()
		admitted, err := a.Admit(t.Context(), sale, queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"})
		if err != nil {
			t.Error(err)
		}
		seqs[i] = admitted.Ticket.Seq
	}
	waiting := func() int { return a.Coalescer.Waiting("hot") }
	all.Go(func() { admit("hot", 0) })
	<-reached
	for i := 1; i <= shoppers; i++ {
		all.Go(func() { admit("hot", i) })
		require.Eventually(t, func() bool { return waiting() == i }, stack.Patience, 10*time.Microsecond)
	}
	s.Place("ann", "quiet")
	require.Equal(t, shoppers, waiting(), "the crowd still waits")
	close(release)
	all.Wait()
	for i, seq := range seqs {
		require.EqualValues(t, i+1, seq)
	}
	s.Clean()
}

// Refusals count whether Redis made them or the gateway by itself.
func TestTheGatewayCountsItsRefusals(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	s.Place("ann", "phone")
	s.Gateway.Refused()
	now := time.Now()
	const shoppers = 20
	for i := range shoppers {
		s.Refused(api.CodeSoldOut, s.Do(fmt.Sprint("late-", i), "POST", "/v1/sales/phone/orders", `{"quantity":1}`))
	}
	require.Eventually(t, func() bool {
		rate := s.Gateway.Refused()["phone"]
		return rate > 0 && rate*time.Since(now).Seconds() > shoppers/2.0
	}, stack.Patience, time.Millisecond)
	require.Equal(t, map[string]float64{"sold_out phone": shoppers}, s.series("sluice_orders_rejected_total"))
}

// Requests that come while a call is in flight travel together.
func TestAdmissionsTravelTogether(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 1000)
	before := s.Rounds()
	var shoppers sync.WaitGroup
	for range 300 {
		shoppers.Go(func() {
			id := stack.NewUUID()
			_, err := s.Gateway.Admitter().Admit(t.Context(), "phone",
				queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"})
			if err != nil {
				t.Error(err)
			}
		})
	}
	shoppers.Wait()
	require.EqualValues(t, 300, s.View("phone").Seq)
	require.Less(t, s.Rounds()-before, int64(150))
}

// A line that is not there is asked for: its reconciler need not wait for its next round.
func TestAdmissionWakesTheKeeperOfAMissingLine(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 3)
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool {
		return s.Order("ann", "phone", "").Status == 202
	}, stack.Patience, 10*time.Millisecond)
	_, err := s.Gateway.Admitter().Admit(t.Context(), "nothing", queue.Request{ID: "a", User: "ann", Units: 1})
	require.ErrorIs(t, err, queue.ErrNotReady)
	s.Clean()
}

func TestStatusReadsGather(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 100, stack.LimitOf(100))
	path := s.Place("ann", "phone")
	id := path[len("/v1/sales/phone/orders/"):]
	before := s.Rounds()
	var shoppers sync.WaitGroup
	for range 400 {
		shoppers.Go(func() {
			if v, err := s.Gateway.Status(t.Context(), "phone", id, "ann"); err != nil || v.ID != id {
				t.Error(v, err)
			}
		})
	}
	shoppers.Wait()
	require.Less(t, s.Rounds()-before, int64(200))
	_, err := s.Gateway.Status(t.Context(), "phone", id, "bob")
	require.Equal(t, api.CodeNotFound, api.CodeOf(err))
	_, err = s.Gateway.Status(t.Context(), "phone", "nothing", "ann")
	require.Equal(t, api.CodeNotFound, api.CodeOf(err))
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, err = s.Gateway.Status(gone, "phone", id, "ann")
	require.Equal(t, api.CodeUnavailable, api.CodeOf(err))
}

// Looks at many sales that come while one is in flight are one round trip, and what ails one line is that one's.
func TestStatusReadsOfManySalesTravelTogether(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	const sales = 50
	ids := s.sellMany(sales)
	paths := make([]string, sales)
	for i, id := range ids {
		paths[i] = s.Place("ann", id)
	}
	require.NoError(t, s.Redis.Set(t.Context(), "sluice:{sale-3/0}:orders", "no hash", 0).Err())
	reads := s.Gateway.LineReads()
	reads.Timeout = time.Hour // the test, not the time, says how long a call hangs
	reads.Calls = 1
	send := reads.Send
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	reads.Send = func(ctx context.Context, batches []coalesce.Batch[string, gateway.Found]) {
		once.Do(func() {
			close(reached)
			<-release
		})
		send(ctx, batches)
	}
	look := func(i int) error {
		_, err := s.Gateway.Status(t.Context(), ids[i], paths[i][len(paths[i])-36:], "ann")
		return err
	}
	var all sync.WaitGroup
	failed := make([]error, sales)
	all.Go(func() { failed[0] = look(0) })
	<-reached
	for i := 1; i < sales; i++ {
		all.Go(func() { failed[i] = look(i) })
	}
	require.Eventually(t, func() bool {
		waiting := 0
		for _, id := range ids {
			waiting += reads.Waiting(id)
		}
		return waiting == sales-1
	}, stack.Patience, time.Millisecond)
	require.EqualValues(t, 2, s.Asked(func() {
		close(release)
		all.Wait()
	}))
	for i, err := range failed {
		require.Equal(t, i == 3, err != nil, "%d: %v", i, err)
	}
}
