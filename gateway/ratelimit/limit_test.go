package ratelimit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

func testLimits() Config {
	return Config{GlobalRPS: 100, GlobalBurst: 4, PerUserRPS: 2, PerUserBurst: 3, PerIPRPS: 0.5, PerIPBurst: 1}
}

func TestLimiterPerUser(t *testing.T) {
	t.Parallel()
	now := testNow
	l := New(testLimits(), func() time.Time { return now })
	for left := 2; left >= 0; left-- {
		d := l.AllowUser("", "ann")
		require.True(t, d.OK)
		require.Equal(t, left, d.Remaining)
	}
	d := l.AllowUser("", "ann")
	require.False(t, d.OK)
	require.Equal(t, 500*time.Millisecond, d.RetryAfter)
	require.True(t, l.AllowUser("", "bob").OK, "one user's haste is not another's")
	now = now.Add(d.RetryAfter)
	require.True(t, l.AllowUser("", "ann").OK, "Retry-After is enough")
	require.False(t, l.AllowUser("", "ann").OK)
}

func TestLimiterAddresses(t *testing.T) {
	t.Parallel()
	l := New(testLimits(), fixedClock)
	require.True(t, l.AllowAnonymous("", "192.0.2.1").OK)
	require.False(t, l.AllowAnonymous("", "192.0.2.1").OK)
	require.False(t, l.AllowAnonymous("", "::ffff:192.0.2.1").OK, "the same address, written as IPv6")
	require.True(t, l.AllowAnonymous("", "192.0.2.2").OK)
	require.True(t, l.AllowAnonymous("", "2001:db8::1").OK)
	require.False(t, l.AllowAnonymous("", "2001:db8::ffff").OK, "one subscriber owns the /64")
	require.True(t, l.AllowAnonymous("", "2001:db8:0:1::1").OK)
	require.True(t, l.AllowAnonymous("", "").OK)
	require.False(t, l.AllowAnonymous("", "nonsense").OK)
	require.True(t, l.AllowUser("", "ann").OK, "users do not count against their address")
}

func TestLimiterGlobalAndOff(t *testing.T) {
	t.Parallel()
	l := New(testLimits(), fixedClock)
	for range 4 {
		require.True(t, l.AllowTotal(t.Context(), "").OK)
	}
	require.Equal(t, "global", l.AllowTotal(t.Context(), "").Policy)
	require.False(t, l.AllowTotal(t.Context(), "").OK)
	l.Set(testLimits())
	require.False(t, l.AllowTotal(t.Context(), "").OK, "what was used stays used")
	l.Set(Config{})
	for range 10 {
		require.True(t, l.AllowTotal(t.Context(), "").OK)
		require.True(t, l.AllowUser("", "ann").OK)
		require.True(t, l.AllowAnonymous("", "192.0.2.1").OK)
	}
	l.Set(testLimits())
	require.True(t, l.AllowTotal(t.Context(), "").OK)
}

func TestLimiterChangesAtOnce(t *testing.T) {
	t.Parallel()
	now := testNow
	l := New(testLimits(), func() time.Time { return now })
	for range 4 {
		l.AllowUser("", "ann")
	}
	faster := testLimits()
	faster.PerUserRPS, faster.PerUserBurst = 1000, 100
	l.Set(faster)
	for range 100 - 3 {
		require.True(t, l.AllowUser("", "ann").OK)
	}
	require.Equal(t, time.Millisecond, l.AllowUser("", "ann").RetryAfter, "what was used stays used")
	now = now.Add(50 * time.Millisecond)
	for range 50 {
		require.True(t, l.AllowUser("", "ann").OK)
	}
	require.False(t, l.AllowUser("", "ann").OK)
	require.Equal(t, 1000, l.AllowUser("", "ann").Limit)
}

func TestLimiterMemoryIsBounded(t *testing.T) {
	t.Parallel()
	now := testNow
	l := New(testLimits(), func() time.Time { return now })
	for i := range limitShards*limitShardBuckets + 20_000 {
		require.True(t, l.AllowUser("", fmt.Sprint(i)).OK, "a newcomer is never refused for want of memory")
	}
	held := 0
	for i := range l.users.shards {
		n := len(l.users.shards[i].young) + len(l.users.shards[i].old)
		require.LessOrEqual(t, n, limitShardBuckets)
		held += n
	}
	require.Greater(t, held, limitShards*limitShardBuckets/4)
	for l.AllowUser("", "ann").OK {
	}
	for i := range limitShards * limitShardBuckets {
		l.AllowUser("", fmt.Sprint("crowd", i))
		if i%1000 == 0 {
			require.False(t, l.AllowUser("", "ann").OK, "who keeps coming is not forgotten in a crowd")
		}
	}
}

func TestLimiterConcurrently(t *testing.T) {
	t.Parallel()
	cfg := testLimits()
	cfg.PerUserBurst = 1000
	l := New(cfg, fixedClock)
	var wg sync.WaitGroup
	var passed sync.Map
	for i := range 8 {
		wg.Go(func() {
			n := 0
			for range 500 {
				if l.AllowUser("", "ann").OK {
					n++
				}
				l.AllowAnonymous("", "192.0.2.1")
				l.AllowTotal(t.Context(), "")
			}
			passed.Store(i, n)
		})
	}
	l.Set(cfg)
	wg.Wait()
	total := 0
	passed.Range(func(_, n any) bool { total += n.(int); return true })
	require.Equal(t, 1000, total)
}

func BenchmarkLimiter(b *testing.B) {
	l := New(Config{GlobalRPS: 50_000, PerUserRPS: 5, PerUserBurst: 10, PerIPRPS: 50}, time.Now)
	b.Run("user", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.AllowUser("", "ann")
		}
	})
	b.Run("anonymous", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.AllowAnonymous("", "192.0.2.1")
		}
	})
	for name, rps := range map[string]float64{"reads": 1e6, "reads off": 0} {
		b.Run(name, func(b *testing.B) {
			l := New(Config{PerUserReadsRPS: rps}, time.Now)
			b.ReportAllocs()
			for b.Loop() {
				l.AllowRead("", "ann")
			}
		})
	}
	b.Run("new users", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			l.AllowUser("", fmt.Sprint(i))
		}
	})
}

func TestABurstOfZeroIsWhatOneSecondAllows(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(time.Unix(1_800_000_000, 0))
	l := New(Config{GlobalRPS: 3, PerUserRPS: 2, PerIPRPS: 0.5}, clock.Now)
	passed := func(allow func() Decision) (n int) {
		for range 10 {
			if allow().OK {
				n++
			}
		}
		return n
	}
	require.Equal(t, 3, passed(func() Decision { return l.AllowTotal(t.Context(), "") }))
	require.Equal(t, 2, passed(func() Decision { return l.AllowUser("", "ann") }))
	require.Equal(t, 1, passed(func() Decision { return l.AllowAnonymous("", "192.0.2.1") }))
}

func TestLimiterAfterASmallerBurstAndAClockSetBack(t *testing.T) {
	t.Parallel()
	now := testNow
	l := New(Config{PerUserRPS: 1, PerUserBurst: 1000}, func() time.Time { return now })
	for range 900 {
		require.True(t, l.AllowUser("s", "ann").OK)
	}
	l.Set(Config{PerUserRPS: 1, PerUserBurst: 5})
	require.Equal(t, time.Second, l.AllowUser("s", "ann").RetryAfter, "no worse off than an empty bucket")
	now = now.Add(-time.Hour)
	require.False(t, l.AllowUser("s", "ann").OK)
	now = now.Add(time.Second)
	require.True(t, l.AllowUser("s", "ann").OK, "time flows again from where the clock stands")
}
