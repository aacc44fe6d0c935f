package coalesce

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// slowStore is a coalescer with a store whose calls take a time that the test chooses, in synthetic time.
type slowStore struct {
	*Coalescer[int, int]
	takes func(key string) time.Duration // time for a queue; a call takes that of its slowest
	all   sync.WaitGroup

	mu     sync.Mutex
	waited map[string][]time.Duration // waits of answered requests, by queue
	failed map[string]int
}

func newSlowStore(takes func(key string) time.Duration) *slowStore {
	s := &slowStore{takes: takes, waited: map[string][]time.Duration{}, failed: map[string]int{}}
	s.Coalescer = New(Config[int, int]{PerKey: 200, PerCall: 1000, Calls: 4, Bound: 20_000, Timeout: 2 * time.Second,
		Now: time.Now, OnPanic: func(any) {}, Send: s.answer})
	return s
}

func (s *slowStore) answer(ctx context.Context, batches []Batch[int, int]) {
	longest := time.Duration(0)
	for _, p := range batches {
		longest = max(longest, s.takes(p.Key))
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	for i := range batches {
		p := &batches[i]
		if p.Err = nil; s.takes(p.Key) >= s.Timeout {
			p.Err = context.DeadlineExceeded
		}
		p.Answers = make([]int, len(p.Requests))
	}
}

// rush sends perSecond requests a second to the queues in turn, and returns how many were answered at the end.
func (s *slowStore) rush(keys []string, perSecond int, lasts time.Duration) (answered int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	end := time.Now().Add(lasts)
	for n := 0; time.Now().Before(end); n++ {
		<-tick.C
		s.all.Go(func() { s.ask(keys[n%len(keys)]) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, waited := range s.waited {
		answered += len(waited)
	}
	return answered
}

func (s *slowStore) ask(key string) {
	began := time.Now()
	_, err := s.Do(context.Background(), key, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed[key]++
		return
	}
	s.waited[key] = append(s.waited[key], time.Since(began))
}

// forgetWaits restarts the measurement.
func (s *slowStore) forgetWaits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.waited)
}

func keysNamed(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(prefix, i)
	}
	return names
}

// quantile returns the wait that a share of these queues' requests did not exceed.
func (s *slowStore) quantile(keys []string, share float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []time.Duration
	for _, key := range keys {
		all = append(all, s.waited[key]...)
	}
	slices.Sort(all)
	return all[int(share*float64(len(all)-1))]
}

// TestWhereAllAreSlowNoneIs uses a store that is 250 ms away. Four calls in flight with 1,000 requests each are 16,000
// a second, more than come. So only the arrivals bound what passes. A request waits for its queue's call in flight and
// then for its own. That is half a second of the six in which they come.
func TestWhereAllAreSlowNoneIs(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1, 2, 30, 100, 1000} {
		for name, before := range map[string]time.Duration{"from the start": 250 * time.Millisecond,
			"after it was quick": time.Millisecond} {
			t.Run(fmt.Sprint(keys, " keys, slow ", name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const seconds = 6
					perSecond := min(2000, 400*keys) // a call takes 200 of one queue
					takes := before
					s := newSlowStore(func(string) time.Duration { return takes })
					names := keysNamed("sale-", keys)
					s.rush(names, perSecond, time.Second)
					s.all.Wait()
					s.forgetWaits()
					takes = 250 * time.Millisecond
					answered := s.rush(names, perSecond, seconds*time.Second)
					s.all.Wait()
					require.GreaterOrEqual(t, answered, perSecond*seconds*3/4)
					require.Empty(t, s.failed)
					require.LessOrEqual(t, s.quantile(names, 0.5), 500*time.Millisecond)
				})
			})
		}
	}
}

// TestWhereAllAreSlowAllCallsAreTheirs checks that no call is reserved for quick queues while all are slow. Four calls
// of ten requests in 250 ms are 160 a second; three would be 120.
func TestWhereAllAreSlowAllCallsAreTheirs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(func(string) time.Duration { return 250 * time.Millisecond })
		s.PerKey, s.PerCall = 1, 10
		const seconds = 10
		keys := keysNamed("sale-", 100)
		s.rush(keys, 400, seconds*time.Second)
		s.forgetWaits()
		answered := s.rush(keys, 400, seconds*time.Second)
		s.all.Wait()
		require.Greater(t, answered, 140*seconds)
	})
}

// TestThroughputFollowsLatency checks that throughput falls with the latency of the store, without a cliff. Shoppers
// who return at once pass once in two calls at most.
func TestThroughputFollowsLatency(t *testing.T) {
	t.Parallel()
	for _, call := range []time.Duration{50, 150, 199, 201, 250, 400, 900} {
		call *= time.Millisecond
		t.Run(call.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlowStore(func(string) time.Duration { return call })
				const shoppers, seconds = 60, 12
				end := time.Now().Add(seconds * time.Second)
				for n := range shoppers {
					s.all.Go(func() {
						for time.Now().Before(end) {
							s.ask(fmt.Sprint("sale-", n%30))
							time.Sleep(time.Millisecond) // synthetic time, until a shopper returns
						}
					})
				}
				s.all.Wait()
				answered := 0
				for _, waited := range s.waited {
					answered += len(waited)
				}
				calls := float64(seconds*time.Second) / float64(call)
				require.GreaterOrEqual(t, float64(answered), 0.75*shoppers/2*calls)
				require.Empty(t, s.failed)
			})
		})
	}
}

// TestAHangingQueueTravelsAlone checks that a sale that hangs delays others once, and then nobody.
func TestAHangingQueueTravelsAlone(t *testing.T) {
	t.Parallel()
	for _, quick := range []int{1, 29, 300} {
		t.Run(fmt.Sprint(quick, " beside it"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hangs atomic.Bool
				s := newSlowStore(func(key string) time.Duration {
					if key == "stuck-0" && hangs.Load() {
						return time.Hour
					}
					return time.Millisecond
				})
				others := keysNamed("sale-", quick)
				all := append(keysNamed("stuck-", 1), others...)
				s.rush(all, 2000, time.Second)
				hangs.Store(true)
				s.rush(all, 2000, 5*time.Second)
				s.forgetWaits()
				s.rush(all, 2000, 10*time.Second)
				beside := s.quantile(others, 1)
				hangs.Store(false)
				s.all.Wait()
				require.LessOrEqual(t, beside, 10*time.Millisecond)
				s.forgetWaits()
				s.rush(all, 2000, time.Second)
				s.all.Wait()
				require.LessOrEqual(t, s.quantile(all, 1), 10*time.Millisecond,
					"it has recovered, and travels with the others")
				for _, key := range others {
					require.Zero(t, s.failed[key])
				}
			})
		})
	}
}

// TestSlowQueuesTravelTogether checks that slow sales, such as those of one server of a cluster, share calls and delay
// no quick one. After all were slow together, separating them takes some seconds.
func TestSlowQueuesTravelTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlowStore(func(key string) time.Duration {
			if key[0] == 'f' {
				return 250 * time.Millisecond
			}
			return time.Millisecond
		})
		far, near := keysNamed("far-", 100), keysNamed("near-", 100)
		both := make([]string, 0, 200)
		for i := range far {
			both = append(both, far[i], near[i])
		}
		s.rush(both, 2000, 20*time.Second)
		s.all.Wait()
		require.LessOrEqual(t, s.quantile(both, 1), time.Second)
		s.forgetWaits()
		s.rush(both, 2000, 10*time.Second)
		s.all.Wait()
		require.LessOrEqual(t, s.quantile(near, 1), 10*time.Millisecond)
		require.LessOrEqual(t, s.quantile(far, 1), 800*time.Millisecond,
			"its key's call in flight, one of others, its own")
		require.Empty(t, s.failed)
	})
}
