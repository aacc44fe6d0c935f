package inventory

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// While operators keep workers from a line, nobody is promised a wait by a rate at which nobody works.
func TestTheExpectedWaitWhileALineIsStopped(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(1_000_000))
	b := NewSaleCache(nil, nil, slog.New(slog.DiscardHandler), clock.Now)
	of := func(sale string) *Entry {
		return &Entry{Sale: Sale{ID: sale}, line: &lineEntry{}, shared: &b.shared, stops: &b.stops}
	}
	phone, tv := of("phone"), of("tv")
	phone.line.rate.measured.set(100)
	eta := func(e *Entry) int64 { return e.Drain().ETA(100) }
	require.EqualValues(t, 1, eta(phone))

	b.Stop(map[string]time.Time{"phone": {}})
	require.EqualValues(t, 61, eta(phone), "nobody knows for how long")
	require.EqualValues(t, 1, eta(tv))
	clock.Advance(50 * time.Second)
	b.Stop(map[string]time.Time{"phone": {}, "tv": clock.Now().Add(10 * time.Second)})
	require.EqualValues(t, 61, eta(phone), "it does not shrink")
	require.EqualValues(t, 11, eta(tv), "somebody has said for how long")
	clock.Advance(70 * time.Second)
	require.EqualValues(t, 121, eta(phone), "it has lasted for two minutes")
	require.EqualValues(t, 2, eta(tv), "the end is over, and was not yet heard of")
	b.Stop(map[string]time.Time{"": clock.Now().Add(time.Hour)})
	require.EqualValues(t, 3601, eta(phone))
	require.EqualValues(t, 3601, eta(tv))
	b.Stop(nil)
	require.EqualValues(t, 1, eta(phone))
	require.EqualValues(t, 1, eta(tv))
}

// What nobody works off says nothing about the drain rate: it is the same when the stop is over.
func TestAStoppedLineKeepsItsRate(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.UnixMilli(1_000_000))
	b := NewSaleCache(nil, nil, slog.New(slog.DiscardHandler), clock.Now)
	e := &Entry{Sale: Sale{ID: "phone"}, line: &lineEntry{}, shared: &b.shared, stops: &b.stops}
	served := int64(0)
	second := func(each int64) {
		for range 10 {
			clock.Advance(100 * time.Millisecond)
			served += each
			b.observe(e, queue.View{Exists: true, Served: served, Claimed: served, Waiting: 50, Now: clock.Now()},
				clock.Now())
		}
	}
	for range 6 {
		second(10)
	}
	require.InDelta(t, 100, e.Rate(), 1)
	b.Stop(map[string]time.Time{"phone": {}})
	for range 30 {
		second(0)
	}
	require.InDelta(t, 100, e.Rate(), 1)
	promised := CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}
	require.Equal(t, 10, promised.Of(0, e.Drain()), "but no wait can be promised")
	b.Stop(nil)
	require.InDelta(t, 3000, promised.Of(0, e.Drain()), 30)
	second(0) // workers hear of it later
	require.InDelta(t, 100, e.Rate(), 1, "nobody could have worked it off yet")
	for range 2 {
		second(10)
	}
	require.InDelta(t, 100, e.Rate(), 1, "what was not worked off is not in the next measurement")
	for range 8 {
		second(2)
	}
	require.InDelta(t, 20, e.Rate(), 1, "and then it is measured again")
}
