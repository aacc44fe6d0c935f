package relay

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/internal/testkit/outbox"
	"sluice/notify"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// TestOldNewsIsNotSent checks that rows older than notify.max_age end unsent, and that an operator's retry counts anew.
func TestOldNewsIsNotSent(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		var dead int64
		b.QueueOrders(t, "email", "1", "2", "3")
		b.Clock.Advance(b.Config.MaxAge + time.Millisecond)
		b.QueueOrders(t, "email", "new")
		ch := outbox.NewRecorder("email", outbox.Accept)
		parts := b.relayParts(ch)
		parts.OnDead = func(_ string, n int64) { dead += n }
		r := New(parts)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"new"}, ch.Orders())
		for _, row := range b.Rows(t, notify.StateOvertaken) {
			require.Equal(t, tooOld, row.LastError)
			require.Zero(t, row.Attempts)
			require.Equal(t, b.Clock.Now().UnixMilli(), row.DeliveredAt)
		}
		require.EqualValues(t, 3, counted(r, "email", countExpired))
		require.EqualValues(t, 3, dead, "operators hear of it")

		require.NoError(t, b.DB.Write.Exec("UPDATE outbox SET state = ? WHERE order_id = '2'", notify.StateDead).Error)
		require.NoError(t, notify.NewAdmin(b.DB.Write, b.DB.Read, b.Clock.Now, func() {}).Retry(t.Context(), "2",
			notify.EventConfirmed, "email", nil))
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"new", "2"}, ch.Orders())
	})
}

// TestRowsOfAChannelThatIsOff checks that they are counted, and swept like those of any other.
func TestRowsOfAChannelThatIsOff(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.QueueOrders(t, "sms", "told", "waits", "failed")
		r := b.relay(outbox.NewRecorder("sms", func(m notify.Message) notify.Result {
			return map[string]notify.Result{"told": notify.Delivered(), "waits": notify.Hold(0, "x"),
				"failed": notify.Retry("x")}[m.OrderID]
		}))
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)

		b.Clock.Advance(b.Config.MaxAge - time.Minute)
		b.QueueOrders(t, "sms", "young")
		off := b.relay(outbox.NewRecorder("email", outbox.Accept))
		pending, _, err := off.count(t.Context())
		require.NoError(t, err)
		off.showOff(t.Context(), pending)
		require.EqualValues(t, 3, testutil.ToFloat64(off.metrics.off.WithLabelValues("sms")))
		require.NoError(t, off.sweepOff(t.Context()))
		require.Empty(t, b.Rows(t, notify.StateDelivered), "what was delivered is deleted after its time")
		require.Len(t, b.Rows(t, notify.StatePending), 3)

		b.Clock.Advance(3 * time.Minute)
		require.NoError(t, off.sweepOff(t.Context()))
		left := b.Rows(t, notify.StatePending)
		require.Len(t, left, 1)
		require.Equal(t, "young", left[0].OrderID)
		require.Len(t, b.Rows(t, notify.StateOvertaken), 2)
		require.EqualValues(t, 2, counted(off, "sms", countExpired))
	})
}

// TestLeasesGoByOneClock checks that a relay whose host is fast leaves alone what another has.
func TestLeasesGoByOneClock(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 3)
		shared := func(context.Context) (time.Time, error) { return b.Clock.Now(), nil }
		relayOff := func(by time.Duration) *Relay {
			parts := b.relayParts(outbox.NewRecorder("a", outbox.Accept))
			parts.Clock, parts.Time = func() time.Time { return b.Clock.Now().Add(by) }, shared
			r := New(parts)
			require.NoError(t, r.shared.compare(t.Context()))
			return r
		}
		slow, fast := relayOff(0), relayOff(b.Config.Lease+time.Second)
		leased, err := slow.lease(t.Context(), slow.loops[0])
		require.NoError(t, err)
		require.Len(t, leased.rows, 3)
		n, err := fast.step(t.Context(), fast.loops[0])
		require.NoError(t, err)
		require.Zero(t, n)
		b.Clock.Advance(b.Config.Lease)
		n, err = fast.step(t.Context(), fast.loops[0])
		require.NoError(t, err)
		require.Equal(t, 3, n, "the lease is over")
	})
}

// TestNothingIsLeasedBeforeTheClockIsKnown checks that a relay waits for the shared clock.
func TestNothingIsLeasedBeforeTheClockIsKnown(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b bench) {
		b.Insert(t, "a", 1)
		ch := outbox.NewRecorder("a", outbox.Accept)
		parts := b.relayParts(ch)
		asked := make(chan struct{}, 10)
		parts.Time = func(context.Context) (time.Time, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			if len(asked) < 2 {
				return time.Time{}, errors.New("away")
			}
			require.Empty(t, ch.Messages())
			return b.Clock.Now(), nil
		}
		run(t, New(parts))
		b.WaitFor(t, notify.StateDelivered, 1)
	})
}
