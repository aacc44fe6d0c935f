package queue_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

const soon = 15 * time.Second

func TestRecap(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		b.enqueue(3)
		require.NoError(t, b.SetCap(b.ctx, b.epoch, 3))
		v, err := b.View(b.ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, v.Cap)
		answers, err := b.Admit(b.ctx, b.epoch, rate, []queue.Request{{ID: "late", User: "late", Units: 1,
			Fingerprint: "f"}})
		require.NoError(t, err)
		require.ErrorIs(t, answers[0].Err, queue.ErrFull)
		require.ErrorIs(t, b.SetCap(b.ctx, b.epoch+1, 9), queue.ErrNotReady)
		require.ErrorIs(t, b.lines.Of("nothing").SetCap(b.ctx, 1, 9), queue.ErrNotReady)
	})
}

func TestInstancesSayThatTheyRun(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		rdb := dial(t, addr)
		require.NoError(t, rdb.Del(t.Context(), "sluice:{instances}").Err())
		instances := queue.NewInstances(rdb, queue.DefaultPrefix, slog.New(slog.DiscardHandler))
		started := time.UnixMilli(1_800_000_000_000).UTC()
		self := queue.Instance{ID: "a", Roles: []string{"gateway"}, Version: "v1", ConfigVersion: 3, ConfigFile: "abc",
			Payments: true, StartedAt: started}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			instances.Run(ctx, func() queue.Instance { return self })
		}()
		var found []queue.Instance
		require.Eventually(t, func() bool {
			var err error
			found, err = instances.List(t.Context())
			require.NoError(t, err)
			return len(found) == 1
		}, soon, 5*time.Millisecond)
		require.WithinDuration(t, time.Now(), found[0].LastSeen, time.Minute)
		found[0].LastSeen = time.Time{}
		require.Equal(t, []queue.Instance{self}, found)
		cancel()
		<-done
		found, err := instances.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, found, "it has said goodbye")

		// One that dies without a word lapses, and so does what nobody can read.
		past := "1000 2000 {}"
		require.NoError(t, rdb.HSet(t.Context(), "sluice:{instances}", "dead", past, "junk", "x").Err())
		found, err = instances.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
		require.Zero(t, rdb.HLen(t.Context(), "sluice:{instances}").Val())
	})
}
