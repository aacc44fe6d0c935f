package gateway

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/server"
	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/queue"
)

// hang makes every read of the database wait until the test ends.
func (s *stack) hang() {
	s.t.Helper()
	db, err := s.db.Read.DB()
	require.NoError(s.t, err)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(s.t.Context())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
}

// atOnce is what a call to a healthy Redis takes, however busy the machine.
const atOnce = admitTimeout / 2

func TestHangingDatabaseHoldsUpNoHealthySale(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("stuck", 5)
	s.sell("phone", 5)
	require.NoError(t, s.rdb.Del(t.Context(), "sluice:{stuck/0}:meta").Err())
	s.hang()
	ask := func(user string) []queue.Request {
		return []queue.Request{{ID: newUUID(), User: user, Units: 1, Fingerprint: "f"}}
	}
	batches := []admitBatch{{Key: "stuck", Requests: ask("ann")}, {Key: "phone", Requests: ask("bob")}}
	began := time.Now()
	s.gateway.admission.send(t.Context(), batches)
	require.Less(t, time.Since(began), atOnce)
	require.ErrorIs(t, batches[0].Err, queue.ErrNotReady)
	require.NoError(t, batches[1].Err)
	require.NoError(t, batches[1].Answers[0].Err)
	// The request itself asks the database whether the line was loaded anew, and does not wait for ever.
	_, err := s.gateway.admission.Admit(t.Context(), "stuck", ask("ann")[0])
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Less(t, time.Since(began), bookWait+2*atOnce)
}

func TestPollOfAnUnknownOrderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 5)
	path := s.place("ann", "phone")
	id := path[len("/v1/sales/phone/orders/"):]
	s.hang()
	gone, hangUp := context.WithCancel(t.Context())
	bogus := make(chan error, 1)
	go func() {
		_, err := s.gateway.status.get(gone, "phone", newUUID(), "mallory")
		bogus <- err
	}()
	for range 20 {
		began := time.Now()
		v, err := s.gateway.status.get(t.Context(), "phone", id, "ann")
		require.NoError(t, err)
		require.Equal(t, id, v.ID)
		require.Less(t, time.Since(began), atOnce)
	}
	select {
	case err := <-bogus:
		require.Fail(t, "the database answered", "%v", err)
	default:
	}
	hangUp()
	require.Error(t, <-bogus)
}

// hscans counts the walks over all records of a line.
type hscans struct {
	*testkit.Trips
	walks *atomic.Int64
}

func (h hscans) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hscan" {
			h.walks.Add(1)
		}
		return next(ctx, cmd)
	}
}

// resold is a sale of which another gateway sells unit after unit, each claimed before this one could read by whom.
type resold struct {
	*stack
	door  *door
	now   time.Time
	walks atomic.Int64 // through all records of the line
	epoch int64
}

func newResold(t *testing.T) *resold {
	r := &resold{stack: newStack(t, quiet), now: time.Now()}
	r.sell("phone", 1000)
	rdb := redis.NewClient(&redis.Options{Addr: r.rdb.Options().Addr, DisableIdentity: true})
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(hscans{&testkit.Trips{}, &r.walks})
	var ds doors
	panics := server.NewPanics(quietLog(), prometheus.NewRegistry(), time.Now)
	ds.init(queue.NewLines(rdb, queue.DefaultPrefix), func() time.Time { return r.now }, panics)
	t.Cleanup(ds.wait)
	r.door = ds.of("phone")
	e, _ := r.book.Get("phone")
	r.epoch = e.Sale.Epoch
	return r
}

// elsewhere sells one, the ticket of that sequence; forgotten is whether Redis has lost its list of
// who was claimed lately.
func (r *resold) elsewhere(seq int64, forgotten bool) {
	r.t.Helper()
	id, line := newUUID(), r.lines.Of("phone")
	_, err := line.Admit(r.t.Context(), r.epoch, 500, []queue.Request{{ID: id, User: id, Units: 1, Fingerprint: "f"}})
	require.NoError(r.t, err)
	_, err = line.Claim(r.t.Context(), newUUID(), 10, time.Minute)
	require.NoError(r.t, err)
	if forgotten {
		require.NoError(r.t, r.rdb.Del(r.t.Context(), "sluice:{phone/0}:recent").Err())
	}
	r.door.crowd.want(r.epoch, seq)
	require.Eventually(r.t, func() bool {
		r.door.crowd.mu.Lock()
		defer r.door.crowd.mu.Unlock()
		return !r.door.crowd.busy
	}, patience, time.Millisecond)
}

// Who was claimed lately is named without a walk: the door stays usable while units trickle back
// and are sold elsewhere.
func TestCrowdHearsOfThoseClaimedElsewhere(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	for seq := range int64(20) {
		r.elsewhere(seq+1, false)
		require.True(t, r.door.crowd.lacks("a stranger", r.epoch, seq+1))
	}
	require.EqualValues(t, 1, r.walks.Load())
}

// Those who cannot be named must not make it walk the records each time.
func TestCrowdIsCountedAnewOnceInAPause(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	for seq := range int64(20) {
		r.elsewhere(seq+1, true)
	}
	require.EqualValues(t, 1, r.walks.Load())
	r.now = r.now.Add(crowdPause)
	r.elsewhere(21, true)
	require.EqualValues(t, 2, r.walks.Load())
	require.True(t, r.door.crowd.lacks("a stranger", r.epoch, 21))
}

// What a crowd has booked of the memory for all of them is given back whole, and no more.
func TestCrowdsShareOneBound(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	r.elsewhere(1, false)
	c := &r.door.crowd
	require.EqualValues(t, 1, c.census.total.Load())
	for seq := int64(2); seq < 100; seq++ {
		ticket := queue.Ticket{Seq: seq, User: newUUID()}
		c.admitted(r.epoch, &queue.AdmitResult{Admissions: []queue.Admission{{Ticket: ticket}}})
	}
	c.forget(time.Now().Add(2 * crowdIdle))
	require.Zero(t, c.census.total.Load())
}

func TestLostReplyOpensTheDoor(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	won := s.place("ann", "phone")
	s.local(api.CodeSoldOut, "phone")
	a := s.gateway.admission
	stale := *a.doors.of("phone").shut.Load()
	require.Equal(t, "cancelled", s.do("ann", "DELETE", won, "").text("status"))
	e, _ := s.book.Get("phone")
	r := queue.Request{ID: new(orderIDs).next(inventory.Sale{ID: "phone"}, "bob", "k"), User: "bob", Units: 1,
		Fingerprint: "f"}
	_, err := s.lines.Of("phone").Admit(t.Context(), e.Sale.Epoch, 500, []queue.Request{r})
	require.NoError(t, err)
	stale.until = time.Now().Add(time.Hour) // read from Redis before the unit came back, learned after the news of it
	a.doors.of("phone").shut.Store(&stale)
	batches := []admitBatch{{Key: "phone", Requests: []queue.Request{r}}}
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	a.send(lost, batches)
	require.Error(t, batches[0].Err)
	require.NoError(t, a.Refusal(e.Sale, "bob"), "bob is in the line; nobody told this gateway")
}
