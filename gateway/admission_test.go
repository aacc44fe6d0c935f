package gateway

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/admission"
	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/queue"
)

// One line's trouble is not the others': here the call for one sale never
// returns, while the next sale is served.
func TestSlowAdmissionDelaysItsOwnSaleOnly(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("stuck", 5)
	s.sell("phone", 5)
	a := s.gateway.admission
	reached, release := hangFirst(a, "stuck")
	stuck := make(chan error, 1)
	go func() {
		_, err := a.Admit(context.Background(), "stuck", queue.Request{ID: "a", User: "ann", Units: 1})
		stuck <- err
	}()
	<-reached
	s.place("bob", "phone")
	select {
	case err := <-stuck:
		require.Fail(t, "the stuck sale answered", "%v", err)
	default:
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.gateway.Drain()
	}()
	require.Eventually(t, s.gateway.Draining, patience, time.Millisecond)
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
	s := newStack(t)
	s.sell("phone", 1)
	s.place("ann", "phone")
	s.refused(api.CodeSoldOut, s.order("bob", "phone", ""))
	s.refused(api.CodeLimitReached, s.order("ann", "phone", ""))
	s.refused(api.CodeInvalidRequest, s.order("ann", "phone", "{"))
	s.refused(api.CodeUnauthorized, s.order("", "phone", ""))
	for _, made := range []string{"up-1", "up-2", "a%0A"} {
		s.refused(api.CodeNotFound, s.order("ann", made, ""))
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
	s := newStack(t)
	s.sell("hot", 1000)
	s.sell("quiet", 5)
	a := s.gateway.admission
	reached, release := hangFirst(a, "hot")
	seqs := make([]int64, shoppers+1)
	var all sync.WaitGroup
	admit := func(sale string, i int) {
		id := newUUID()
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
		require.Eventually(t, func() bool { return waiting() == i }, patience, 10*time.Microsecond)
	}
	s.place("ann", "quiet")
	require.Equal(t, shoppers, waiting(), "the crowd still waits")
	close(release)
	all.Wait()
	for i, seq := range seqs {
		require.EqualValues(t, i+1, seq)
	}
	s.clean()
}

// Refusals count whether Redis made them or the gateway by itself.
func TestTheGatewayCountsItsRefusals(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	s.place("ann", "phone")
	s.gateway.Refused()
	now := time.Now()
	const shoppers = 20
	for i := range shoppers {
		s.refused(api.CodeSoldOut, s.do(fmt.Sprint("late-", i), "POST", "/v1/sales/phone/orders", `{"quantity":1}`))
	}
	require.Eventually(t, func() bool {
		rate := s.gateway.Refused()["phone"]
		return rate > 0 && rate*time.Since(now).Seconds() > shoppers/2.0
	}, patience, time.Millisecond)
	require.Equal(t, map[string]float64{"sold_out phone": shoppers}, s.series("sluice_orders_rejected_total"))
}

// Requests that come while a call is in flight travel together.
func TestAdmissionsTravelTogether(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 1000)
	before := s.trips.Rounds.Load()
	var shoppers sync.WaitGroup
	for range 300 {
		shoppers.Go(func() {
			id := newUUID()
			_, err := s.gateway.admission.Admit(t.Context(), "phone",
				queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"})
			if err != nil {
				t.Error(err)
			}
		})
	}
	shoppers.Wait()
	require.EqualValues(t, 300, s.view("phone").Seq)
	require.Less(t, s.trips.Rounds.Load()-before, int64(150))
}

// A line that is not there is asked for: its reconciler need not wait for its next round.
func TestAdmissionWakesTheKeeperOfAMissingLine(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 3)
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool {
		return s.order("ann", "phone", "").status == 202
	}, patience, 10*time.Millisecond)
	_, err := s.gateway.admission.Admit(t.Context(), "nothing", queue.Request{ID: "a", User: "ann", Units: 1})
	require.ErrorIs(t, err, queue.ErrNotReady)
	s.clean()
}

func TestStatusReadsGather(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 100, limitOf(100))
	path := s.place("ann", "phone")
	id := path[len("/v1/sales/phone/orders/"):]
	before := s.trips.Rounds.Load()
	var shoppers sync.WaitGroup
	for range 400 {
		shoppers.Go(func() {
			if v, err := s.gateway.status.get(t.Context(), "phone", id, "ann"); err != nil || v.ID != id {
				t.Error(v, err)
			}
		})
	}
	shoppers.Wait()
	require.Less(t, s.trips.Rounds.Load()-before, int64(200))
	_, err := s.gateway.status.get(t.Context(), "phone", id, "bob")
	require.Equal(t, api.CodeNotFound, api.CodeOf(err))
	_, err = s.gateway.status.get(t.Context(), "phone", "nothing", "ann")
	require.Equal(t, api.CodeNotFound, api.CodeOf(err))
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	_, err = s.gateway.status.get(gone, "phone", id, "ann")
	require.Equal(t, api.CodeUnavailable, api.CodeOf(err))
}

// Looks at many sales that come while one is in flight are one round trip, and what ails one line is that one's.
func TestStatusReadsOfManySalesTravelTogether(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	const sales = 50
	ids := s.sellMany(sales)
	paths := make([]string, sales)
	for i, id := range ids {
		paths[i] = s.place("ann", id)
	}
	require.NoError(t, s.rdb.Set(t.Context(), "sluice:{sale-3/0}:orders", "no hash", 0).Err())
	reads := s.gateway.status.line
	reads.Timeout = time.Hour // the test, not the time, says how long a call hangs
	reads.Calls = 1
	send := reads.Send
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	reads.Send = func(ctx context.Context, batches []coalesce.Batch[string, found]) {
		once.Do(func() {
			close(reached)
			<-release
		})
		send(ctx, batches)
	}
	look := func(i int) error {
		_, err := s.gateway.status.get(t.Context(), ids[i], paths[i][len(paths[i])-36:], "ann")
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
	}, patience, time.Millisecond)
	require.EqualValues(t, 2, s.asked(func() {
		close(release)
		all.Wait()
	}))
	for i, err := range failed {
		require.Equal(t, i == 3, err != nil, "%d: %v", i, err)
	}
}

func TestEveryErrorHasItsCode(t *testing.T) {
	t.Parallel()
	require.Equal(t, api.CodeInternal, api.CodeOf(context.Cause(t.Context())))
	for err, code := range map[error]api.Code{
		queue.NotStartedError{}: api.CodeSaleNotStarted, queue.LimitError{}: api.CodeLimitReached,
		queue.ErrEnded: api.CodeSaleEnded, queue.ErrPaused: api.CodeSalePaused,
		queue.ErrFull: api.CodeQueueFull, queue.ErrSoldOut: api.CodeSoldOut,
		queue.ErrMismatch: api.CodeIdempotencyMismatch, queue.ErrNotReady: api.CodeUnavailable,
		inventory.ErrNoSale: api.CodeNotFound, inventory.ErrExists: api.CodeConflict,
		inventory.ErrShort: api.CodeConflict, inventory.ErrClosed: api.CodeConflict,
		inventory.ErrBusy: api.CodeUnavailable, coalesce.ErrOverloaded: api.CodeUnavailable,
		context.Canceled: api.CodeUnavailable, context.DeadlineExceeded: api.CodeUnavailable,
		prometheus.AlreadyRegisteredError{}: api.CodeInternal,
	} {
		require.Equal(t, code, api.CodeOf(err), err)
	}
}
