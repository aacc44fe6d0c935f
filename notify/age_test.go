package notify

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// TestOldNewsIsNotSent checks that rows older than notify.max_age end unsent, and that an operator's retry counts anew.
func TestOldNewsIsNotSent(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		var dead int64
		b.queue(t, "email", "1", "2", "3")
		b.clock.Advance(b.cfg.MaxAge + time.Millisecond)
		b.queue(t, "email", "new")
		ch := &recorder{name: "email", answer: accept}
		parts := b.relayParts(ch)
		parts.OnDead = func(_ string, n int64) { dead += n }
		r := NewRelay(parts)
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"new"}, ch.orders())
		for _, row := range b.rows(t, StateOvertaken) {
			require.Equal(t, tooOld, row.LastError)
			require.Zero(t, row.Attempts)
			require.Equal(t, b.clock.Now().UnixMilli(), row.DeliveredAt)
		}
		require.EqualValues(t, 3, counted(r, "email", countExpired))
		require.EqualValues(t, 3, dead, "operators hear of it")

		require.NoError(t, b.db.Write.Exec("UPDATE outbox SET state = ? WHERE order_id = '2'", StateDead).Error)
		require.NoError(t, NewAdmin(b.db.Write, b.db.Read, b.clock.Now, func() {}).Retry(t.Context(), "2",
			EventConfirmed, "email", nil))
		_, err = r.step(t.Context(), r.loops[0])
		require.NoError(t, err)
		require.Equal(t, []string{"new", "2"}, ch.orders())
	})
}

// TestRowsOfAChannelThatIsOff checks that they are counted, and swept like those of any other.
func TestRowsOfAChannelThatIsOff(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.queue(t, "sms", "told", "waits", "failed")
		r := b.relay(&recorder{name: "sms", answer: func(m Message) Result {
			return map[string]Result{"told": Delivered(), "waits": Hold(0, "x"), "failed": Retry("x")}[m.OrderID]
		}})
		_, err := r.step(t.Context(), r.loops[0])
		require.NoError(t, err)

		b.clock.Advance(b.cfg.MaxAge - time.Minute)
		b.queue(t, "sms", "young")
		off := b.relay(&recorder{name: "email", answer: accept})
		pending, _, err := off.count(t.Context())
		require.NoError(t, err)
		off.showOff(t.Context(), pending)
		require.EqualValues(t, 3, testutil.ToFloat64(off.metrics.off.WithLabelValues("sms")))
		require.NoError(t, off.sweepOff(t.Context()))
		require.Empty(t, b.rows(t, StateDelivered), "what was delivered is deleted after its time")
		require.Len(t, b.rows(t, StatePending), 3)

		b.clock.Advance(3 * time.Minute)
		require.NoError(t, off.sweepOff(t.Context()))
		left := b.rows(t, StatePending)
		require.Len(t, left, 1)
		require.Equal(t, "young", left[0].OrderID)
		require.Len(t, b.rows(t, StateOvertaken), 2)
		require.EqualValues(t, 2, counted(off, "sms", countExpired))
	})
}

// TestLeasesGoByOneClock checks that a relay whose host is fast leaves alone what another has.
func TestLeasesGoByOneClock(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 3)
		shared := func(context.Context) (time.Time, error) { return b.clock.Now(), nil }
		relayOff := func(by time.Duration) *Relay {
			parts := b.relayParts(&recorder{name: "a", answer: accept})
			parts.Clock, parts.Time = func() time.Time { return b.clock.Now().Add(by) }, shared
			r := NewRelay(parts)
			require.NoError(t, r.shared.compare(t.Context()))
			return r
		}
		slow, fast := relayOff(0), relayOff(b.cfg.Lease+time.Second)
		leased, err := slow.lease(t.Context(), slow.loops[0])
		require.NoError(t, err)
		require.Len(t, leased.rows, 3)
		n, err := fast.step(t.Context(), fast.loops[0])
		require.NoError(t, err)
		require.Zero(t, n)
		b.clock.Advance(b.cfg.Lease)
		n, err = fast.step(t.Context(), fast.loops[0])
		require.NoError(t, err)
		require.Equal(t, 3, n, "the lease is over")
	})
}

// TestNothingIsLeasedBeforeTheClockIsKnown checks that a relay waits for the shared clock.
func TestNothingIsLeasedBeforeTheClockIsKnown(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "a", 1)
		ch := &recorder{name: "a", answer: accept}
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
			require.Empty(t, ch.messages())
			return b.clock.Now(), nil
		}
		run(t, NewRelay(parts))
		b.waitFor(t, StateDelivered, 1)
	})
}
