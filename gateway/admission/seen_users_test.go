package admission

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// hscans is a Redis hook that counts the scans of a line's records.
type hscans struct {
	*testkit.Trips
	scanned *atomic.Int64
}

func (h hscans) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hscan" {
			h.scanned.Add(1)
		}
		return next(ctx, cmd)
	}
}

// resold is a sale of which another gateway sells unit after unit. Each ticket is claimed before this gateway reads it.
type resold struct {
	*world
	cache   *refusalCache
	now     time.Time
	scanned atomic.Int64 // scans of all records of the line
	epoch   int64
}

func newResold(t *testing.T) *resold {
	r := &resold{world: newWorld(t), now: time.Now()}
	r.epoch = r.sell("phone", 1000).Epoch
	rdb := redis.NewClient(&redis.Options{Addr: r.rdb.Options().Addr, DisableIdentity: true})
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(hscans{&testkit.Trips{}, &r.scanned})
	var caches refusalCaches
	caches.init(queue.NewLines(rdb, queue.DefaultPrefix), func() time.Time { return r.now }, r.panics)
	t.Cleanup(caches.wait)
	r.cache = caches.get("phone")
	return r
}

// elsewhere sells a unit through the other gateway, with that sequence. forgotten removes Redis' list of tickets
// claimed lately.
func (r *resold) elsewhere(seq int64, forgotten bool) {
	r.t.Helper()
	line := r.lines.Of("phone")
	_, err := line.Admit(r.t.Context(), r.epoch, 500, []queue.Request{ask(newUUID())})
	require.NoError(r.t, err)
	_, err = line.Claim(r.t.Context(), newUUID(), 10, time.Minute)
	require.NoError(r.t, err)
	if forgotten {
		require.NoError(r.t, r.rdb.Del(r.t.Context(), "sluice:{phone/0}:recent").Err())
	}
	r.cache.seen.fillTo(r.epoch, seq)
	require.Eventually(r.t, func() bool {
		r.cache.seen.mu.Lock()
		defer r.cache.seen.mu.Unlock()
		return !r.cache.seen.busy
	}, patience, time.Millisecond)
}

// TestFilterHearsOfThoseClaimedElsewhere checks that lately claimed tickets are read without a scan, so that the filter
// stays usable.
func TestFilterHearsOfThoseClaimedElsewhere(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	for seq := range int64(20) {
		r.elsewhere(seq+1, false)
		require.True(t, r.cache.seen.lacks("a stranger", r.epoch, seq+1))
	}
	require.EqualValues(t, 1, r.scanned.Load())
}

// TestLineIsScannedOnceInAPause checks that missing tickets cause at most one scan in a pause.
func TestLineIsScannedOnceInAPause(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	for seq := range int64(20) {
		r.elsewhere(seq+1, true)
	}
	require.EqualValues(t, 1, r.scanned.Load())
	r.now = r.now.Add(scanPause)
	r.elsewhere(21, true)
	require.EqualValues(t, 2, r.scanned.Load())
	require.True(t, r.cache.seen.lacks("a stranger", r.epoch, 21))
}

// TestFiltersShareOneBound checks that a filter gives back exactly its part of the total.
func TestFiltersShareOneBound(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	r.elsewhere(1, false)
	c := &r.cache.seen
	require.EqualValues(t, 1, c.scans.total.Load())
	for seq := int64(2); seq < 100; seq++ {
		ticket := queue.Ticket{Seq: seq, User: newUUID()}
		c.noteAdmitted(r.epoch, &queue.AdmitResult{Admissions: []queue.Admission{{Ticket: ticket}}})
	}
	c.forget(time.Now().Add(2 * seenIdle))
	require.Zero(t, c.scans.total.Load())
}

// TestAPanicWhileALineIsScanned checks that after a panic of a scan the process goes on and Redis decides.
func TestAPanicWhileALineIsScanned(t *testing.T) {
	t.Parallel()
	r := newResold(t)
	r.cache.seen.line = nil
	r.cache.seen.fillTo(r.epoch, 1)
	require.Eventually(t, func() bool {
		r.cache.seen.mu.Lock()
		defer r.cache.seen.mu.Unlock()
		return !r.cache.seen.busy
	}, patience, time.Millisecond)
	require.EqualValues(t, 1, testutil.ToFloat64(r.panics.Counter("crowd")))
	require.False(t, r.cache.seen.lacks("a stranger", r.epoch, 1))
}
