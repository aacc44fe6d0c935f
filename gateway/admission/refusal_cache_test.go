package admission

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// staleRefusal makes a refusal that Redis gave before the unit came back, and that is learned after the news of it.
func (w *world) staleRefusal(sale, holder, id string) {
	w.t.Helper()
	cache := w.admitter.refusals.of(sale)
	stale := *cache.repeated.Load()
	stale.until = time.Now().Add(time.Hour)
	w.cancel(sale, id, holder)
	cache.repeated.Store(&stale)
}

func TestLostReplyEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sale := w.sell("phone", 1)
	won := w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	w.staleRefusal("phone", "ann", won)
	r := ask("bob")
	require.Eventually(t, func() bool { // in the line through another gateway
		admitted, err := w.lines.Of("phone").Admit(t.Context(), sale.Epoch, 500, []queue.Request{r})
		require.NoError(t, err)
		return admitted[0].Err == nil
	}, patience, time.Millisecond)
	batches := []batch{{Key: "phone", Requests: []queue.Request{r}}}
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	w.admitter.send(lost, batches)
	require.Error(t, batches[0].Err)
	require.NoError(t, w.admitter.Refusal(sale, "bob"), "bob is in the line; nobody told this gateway")
}

// Whom Redis has admitted when the call breaks is not refused as a stranger.
func TestAPanicAfterTheCallEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sale := w.sell("phone", 1)
	won := w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	w.staleRefusal("phone", "ann", won)
	cache := w.admitter.refusals.of("phone")
	scans := cache.seen.scans
	cache.seen.scans = nil // what Redis has answered cannot be taken over
	func() {
		defer w.panics.Catch("test")
		w.admitter.send(t.Context(), []batch{{Key: "phone", Requests: []queue.Request{ask("bob")}}})
	}()
	cache.seen.scans = scans
	require.EqualValues(t, 1, testutil.ToFloat64(w.panics.Counter("test")))
	require.Nil(t, cache.repeated.Load())
}

// A local refusal is repeated until the time that Redis told, and no longer, whether or not there is news.
func TestRefusalIsRepeatedForAsLongAsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sale := w.sell("phone", 1)
	w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	cache := w.admitter.refusals.of("phone")
	result := w.lines.Admit(t.Context(), []queue.Ask{{Line: w.lines.Of("phone"), Epoch: sale.Epoch, Rate: 500,
		Requests: []queue.Request{ask("zoe")}}})[0]
	require.ErrorIs(t, result.Admissions[0].Err, queue.ErrSoldOut)
	at := result.Firm
	cache.now = func() time.Time { return at }
	cache.learn(sale, &result)
	require.ErrorIs(t, w.admitter.Refusal(sale, "a stranger"), queue.ErrSoldOut)
	at = at.Add(time.Nanosecond)
	require.NoError(t, w.admitter.Refusal(sale, "a stranger"))
}

// What was kept for a sale is let go when nobody has ordered from it for a while.
func TestRefusalCachesAreLetGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kept := func() (n int) {
		w.admitter.refusals.sales.Range(func(any, any) bool { n++; return true })
		return n
	}
	sale := w.sell("phone", 1)
	w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	w.admitter.refusals.wait() // scans end: one that runs keeps its cache
	w.admitter.Forget()
	require.Equal(t, 1, kept(), "it was asked for just now")
	w.ahead = 2 * time.Minute
	w.admitter.Forget()
	require.Zero(t, kept())
	_, err := w.admitter.Admit(t.Context(), "phone", ask("bob"))
	require.ErrorIs(t, err, queue.ErrSoldOut)
	require.Equal(t, 1, kept())
}
