package pull_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/pull"
	"sluice/internal/testkit/topics"
)

// scriptCalls counts calls of scripts, alone or in pipelines.
type scriptCalls struct{ n atomic.Int64 }

func (s *scriptCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *scriptCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func (s *scriptCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.n.Add(1)
		return next(ctx, cmd)
	}
}

// Forty readers wait for the same and for other subscriptions: one look serves them all, and each message goes to one.
func TestReadersWaitTogether(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		w.Topic("t", "")
		const each = 10
		for i := range 4 {
			w.Subscribe("t", fmt.Sprint("s", i))
		}
		readers := w.Readers()
		calls := &scriptCalls{}
		var waiting sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for i := range 4 * each {
			name := fmt.Sprint("s", i%4)
			waiting.Go(func() {
				list, err := readers.Receive(t.Context(), name, 1, pull.MaxWait)
				if err != nil || len(list) != 1 {
					t.Errorf("%d messages, %v", len(list), err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[name+" "+list[0].ID]++
			})
		}
		require.Eventually(t, func() bool {
			n, _ := readers.Waiting()
			return n == 4*each
		}, topics.Patience, time.Millisecond)
		began := time.Now()
		w.Redis.AddHook(calls)
		require.Eventually(t, func() bool { return calls.n.Load() >= 5 }, topics.Patience, time.Millisecond,
			"they look")
		made := calls.n.Load()
		require.LessOrEqual(t, made, int64(time.Since(began)/w.Config.Poll+2), "all are looked for in one call")
		for i := range each {
			w.Add("t", topics.Message(fmt.Sprint("m", i), 0))
		}
		waiting.Wait()
		require.Len(t, got, 4*each)
		for key, n := range got {
			require.Equal(t, 1, n, key)
		}
		require.Eventually(t, func() bool {
			_, looking := readers.Waiting()
			return !looking
		}, topics.Patience, time.Millisecond, "nobody waits any more")
	})
}

func TestAWaitEnds(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	w.Topic("t", "")
	w.Subscribe("t", "s")
	readers := w.Readers()
	require.Empty(t, w.Receive(readers, "s", 20*time.Millisecond))
	w.Add("t", topics.Message("soon", 30*time.Millisecond))
	require.Equal(t, []string{"soon"}, topics.IDs(w.Receive(readers, "s", pull.MaxWait)))
	ended := make(chan error, 1)
	go func() {
		_, err := readers.Receive(context.Background(), "s", 1, pull.MaxWait)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		n, _ := readers.Waiting()
		return n == 1
	}, topics.Patience, time.Millisecond)
	require.NoError(t, w.Topics.DeleteSubscription(t.Context(), delay.Deletion{Name: "s", GiveUp: true}, "ann", ""))
	require.ErrorIs(t, <-ended, delay.ErrNoSubscription)
}
