package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/admission"
	"sluice/internal/coalesce"
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
const atOnce = admission.Timeout / 2

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
	batches := []coalesce.Batch[queue.Request, *queue.Admission]{
		{Key: "stuck", Requests: ask("ann")}, {Key: "phone", Requests: ask("bob")}}
	began := time.Now()
	s.gateway.admission.Coalescer.Send(t.Context(), batches)
	require.Less(t, time.Since(began), atOnce)
	require.ErrorIs(t, batches[0].Err, queue.ErrNotReady)
	require.NoError(t, batches[1].Err)
	require.NoError(t, batches[1].Answers[0].Err)
	// The request itself asks the database whether the line was loaded anew, and does not wait for ever.
	_, err := s.gateway.admission.Admit(t.Context(), "stuck", ask("ann")[0])
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Less(t, time.Since(began), time.Second+2*atOnce)
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
