package gateway_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/admission"
	"sluice/internal/coalesce"
	"sluice/internal/testkit/stack"
	"sluice/queue"
)

// hang makes every read of the database wait until the test ends.
func (s *world) hang() {
	s.T.Helper()
	db, err := s.DB.Read.DB()
	require.NoError(s.T, err)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(s.T.Context())
	require.NoError(s.T, err)
	s.T.Cleanup(func() { _ = conn.Close() })
}

// atOnce is what a call to a healthy Redis takes, however busy the machine.
const atOnce = admission.Timeout / 2

func TestHangingDatabaseHoldsUpNoHealthySale(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("stuck", 5)
	s.Sell("phone", 5)
	require.NoError(t, s.Redis.Del(t.Context(), "sluice:{stuck/0}:meta").Err())
	s.hang()
	ask := func(user string) []queue.Request {
		return []queue.Request{{ID: stack.NewUUID(), User: user, Units: 1, Fingerprint: "f"}}
	}
	batches := []coalesce.Batch[queue.Request, *queue.Admission]{
		{Key: "stuck", Requests: ask("ann")}, {Key: "phone", Requests: ask("bob")}}
	began := time.Now()
	s.Gateway.Admitter().Coalescer.Send(t.Context(), batches)
	require.Less(t, time.Since(began), atOnce)
	require.ErrorIs(t, batches[0].Err, queue.ErrNotReady)
	require.NoError(t, batches[1].Err)
	require.NoError(t, batches[1].Answers[0].Err)
	// The request itself asks the database whether the line was loaded anew, and does not wait for ever.
	_, err := s.Gateway.Admitter().Admit(t.Context(), "stuck", ask("ann")[0])
	require.ErrorIs(t, err, queue.ErrNotReady)
	require.Less(t, time.Since(began), time.Second+2*atOnce)
}

func TestPollOfAnUnknownOrderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 5)
	path := s.Place("ann", "phone")
	id := path[len("/v1/sales/phone/orders/"):]
	s.hang()
	gone, hangUp := context.WithCancel(t.Context())
	bogus := make(chan error, 1)
	go func() {
		_, err := s.Gateway.Status(gone, "phone", stack.NewUUID(), "mallory")
		bogus <- err
	}()
	for range 20 {
		began := time.Now()
		v, err := s.Gateway.Status(t.Context(), "phone", id, "ann")
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
