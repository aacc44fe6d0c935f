package gateway

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

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
	parcels := []admitParcel{{key: "stuck", requests: ask("ann")}, {key: "phone", requests: ask("bob")}}
	began := time.Now()
	s.gateway.admission.send(t.Context(), parcels)
	require.Less(t, time.Since(began), atOnce)
	require.ErrorIs(t, parcels[0].err, queue.ErrNotReady)
	require.NoError(t, parcels[1].err)
	require.NoError(t, parcels[1].answers[0].Err)
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
	callCounter
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

// Units resold elsewhere, and claimed before this gateway could read by whom, must not make it walk the records each time.
func TestCrowdIsCountedAnewOnceInAPause(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1000)
	now := time.Now()
	rdb := redis.NewClient(&redis.Options{Addr: s.rdb.Options().Addr, DisableIdentity: true})
	t.Cleanup(func() { _ = rdb.Close() })
	var walks atomic.Int64
	rdb.AddHook(hscans{callCounter{new(atomic.Int64)}, &walks})
	var ds doors
	ds.init(queue.NewLines(rdb), func() time.Time { return now })
	t.Cleanup(ds.wait)
	d, line := ds.of("phone"), s.lines.Of("phone")
	e, _ := s.book.Get("phone")
	soldElsewhere := func(seq int64) {
		id := newUUID()
		_, err := line.Admit(t.Context(), e.Sale.Epoch, 500, []queue.Request{{ID: id, User: id, Units: 1, Fingerprint: "f"}})
		require.NoError(t, err)
		_, err = line.Claim(t.Context(), newUUID(), 10, time.Minute)
		require.NoError(t, err)
		d.crowd.want(e.Sale.Epoch, seq)
		require.Eventually(t, func() bool {
			d.crowd.mu.Lock()
			defer d.crowd.mu.Unlock()
			return !d.crowd.busy
		}, patience, time.Millisecond)
	}
	for seq := range int64(20) {
		soldElsewhere(seq + 1)
	}
	require.EqualValues(t, 1, walks.Load())
	now = now.Add(crowdPause)
	soldElsewhere(21)
	require.EqualValues(t, 2, walks.Load())
	require.True(t, d.crowd.lacks("a stranger", e.Sale.Epoch, 21))
}

func TestLostReplyOpensTheDoor(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	won := s.place("ann", "phone")
	s.local(CodeSoldOut, "phone")
	a := s.gateway.admission
	stale := *a.doors.of("phone").shut.Load()
	require.Equal(t, "cancelled", s.do("ann", "DELETE", won, "").text("status"))
	e, _ := s.book.Get("phone")
	r := queue.Request{ID: OrderID("phone", "bob", "k"), User: "bob", Units: 1, Fingerprint: "f"}
	_, err := s.lines.Of("phone").Admit(t.Context(), e.Sale.Epoch, 500, []queue.Request{r})
	require.NoError(t, err)
	stale.until = time.Now().Add(time.Hour) // read from Redis before the unit came back, learned after the news of it
	a.doors.of("phone").shut.Store(&stale)
	parcels := []admitParcel{{key: "phone", requests: []queue.Request{r}}}
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	a.send(lost, parcels)
	require.Error(t, parcels[0].err)
	require.NoError(t, a.Refusal(e.Sale, "bob"), "bob is in the line; nobody told this gateway")
}
