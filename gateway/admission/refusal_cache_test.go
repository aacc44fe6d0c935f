package admission

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/queue"
)

// staleRefusal makes the cache learn a refusal from before a unit came back, after it has learned of the unit.
func (w *world) staleRefusal(sale, holder, id string) {
	w.t.Helper()
	cache := w.admitter.refusals.get(sale)
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
	require.Eventually(t, func() bool { // admitted by another gateway
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

// TestAPanicAfterTheCallEndsTheLocalRefusal checks that a user whom Redis admitted in a broken call is not refused as
// new.
func TestAPanicAfterTheCallEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sale := w.sell("phone", 1)
	won := w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	w.staleRefusal("phone", "ann", won)
	cache := w.admitter.refusals.get("phone")
	scans := cache.seen.scans
	cache.seen.scans = nil // makes taking over the answers panic
	func() {
		defer w.panics.Catch("test")
		w.admitter.send(t.Context(), []batch{{Key: "phone", Requests: []queue.Request{ask("bob")}}})
	}()
	cache.seen.scans = scans
	require.EqualValues(t, 1, testutil.ToFloat64(w.panics.Counter("test")))
	require.Nil(t, cache.repeated.Load())
}

// TestRefusalIsRepeatedForAsLongAsTold checks that a refusal is repeated exactly until the time that Redis gave.
func TestRefusalIsRepeatedForAsLongAsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sale := w.sell("phone", 1)
	w.place("ann", "phone")
	w.refuseLocally(queue.ErrSoldOut, sale)
	cache := w.admitter.refusals.get("phone")
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

// TestRefusalCachesAreLetGo checks that the state of a sale without orders is dropped.
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
	w.admitter.refusals.wait() // a running scan would keep its cache
	w.admitter.Forget()
	require.Equal(t, 1, kept(), "it was asked for just now")
	w.ahead = 2 * time.Minute
	w.admitter.Forget()
	require.Zero(t, kept())
	_, err := w.admitter.Admit(t.Context(), "phone", ask("bob"))
	require.ErrorIs(t, err, queue.ErrSoldOut)
	require.Equal(t, 1, kept())
}
