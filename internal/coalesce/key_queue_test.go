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

// shopfloor is a coalescer before a store whose answers take the time a test says, on a clock that only waiting moves.
type slowStore struct {
	*Coalescer[int, int]
	takes func(key string) time.Duration // of a call, that of its slowest queue
	all   sync.WaitGroup

	mu     sync.Mutex
	waited map[string][]time.Duration // of the requests that were answered, by queue
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

// rush sends one request after the other, queue by queue, so many a second, and returns how many
// were answered by its end.
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

// forgetWaits begins to measure anew.
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

// quantile is the wait that so great a share of these queues' requests did not exceed.
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

// A store that is a quarter of a second away answers as many as fit into four calls in flight: 4 ×
// 1,000 requests each 250 ms are 16,000 a second (200 of each queue, 800 a second), more than come.
// So nothing but the arrivals may bound what passes, less the last that are still on their way: a
// request waits for its queue's call in flight and then for its own, half a second of the six in
// which they come.
func TestWhereAllAreSlowNoneIs(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{1, 2, 30, 100, 1000} {
		for name, before := range map[string]time.Duration{"from the start": 250 * time.Millisecond,
			"after it was quick": time.Millisecond} {
			t.Run(fmt.Sprint(keys, " keys, slow ", name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const seconds = 6
					perSecond := min(2000, 400*keys) // of one queue a call takes 200
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

// Where all are slow no call is kept for quick ones: four of ten requests in a quarter of a second
// each are 160 a second, three would be 120.
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

// Throughput falls with the latency of the store, without a cliff: a few shoppers who come back as
// soon as they are answered pass once in two calls at the most, whatever a call takes.
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
							time.Sleep(time.Millisecond) // of the bubble's time: a shopper's way back
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

// A sale that hangs holds up those who shared a call with it once, and then nobody.
func TestAHangingLaneTravelsAlone(t *testing.T) {
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

// Slow sales, as those of one server of a cluster, hold up no quick one, and travel together. To
// find out which are which takes some seconds when all were slow together before; nobody is lost
// meanwhile.
func TestSlowLanesTravelTogether(t *testing.T) {
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
