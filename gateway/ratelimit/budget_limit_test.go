package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"sluice/fleet/budgets"
	"sluice/internal/testkit"
)

// onRedis runs a test with each kind of Redis.
func onRedis(t *testing.T, test func(t *testing.T, rdb *redis.Client)) {
	t.Helper()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			test(t, testkit.RedisClient(t, kind.Addr))
		})
	}
}

// TestALoweredLimitHoldsWithinASecond checks that a lowered limit holds within a second over both gateways, whatever
// was leased before.
func TestALoweredLimitHoldsWithinASecond(t *testing.T) {
	t.Parallel()
	of := func(rps float64) map[string]SaleConfig { return map[string]SaleConfig{"phone": {TotalRPS: &rps}} }
	for name, c := range map[string]struct{ high, low Config }{
		"general":  {Config{GlobalRPS: 10_000}, Config{GlobalRPS: 10}},
		"a sale's": {Config{Sales: of(10_000)}, Config{Sales: of(10)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onRedis(t, func(t *testing.T, rdb *redis.Client) {
				a, b := newLoadedLimiter(t, rdb, "a", c.high, 4000), newLoadedLimiter(t, rdb, "b", c.high, 1000)
				perSecond(1, a, b)
				a.limiter.Set(c.low)
				perSecond(1, a, b) // while the other may not know it yet
				b.limiter.Set(c.low)
				perSecond(1, a, b)
				sum := 0.0
				for _, passed := range perSecond(2, a, b) {
					sum += passed
				}
				require.LessOrEqual(t, sum, 2*10+10*1.2, "its rate, and its burst where the crowd was kept waiting")
				require.GreaterOrEqual(t, sum, 2*10*0.5, "it is a limit, not a stop")
			})
		})
	}
}

// TestALoweredLimitTakesBackWhatWasLeased checks that only the new burst and rate pass once both gateways know the
// lower limit.
func TestALoweredLimitTakesBackWhatWasLeased(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, rdb *redis.Client) {
		cfg := Config{GlobalRPS: 10_000}
		a, b := newLoadedLimiter(t, rdb, "a", cfg, 3000), newLoadedLimiter(t, rdb, "b", cfg, 3000)
		perSecond(1, a, b)
		began := time.Now()
		a.limiter.Set(Config{GlobalRPS: 10})
		b.limiter.Set(Config{GlobalRPS: 10})
		before := a.passed.Load() + b.passed.Load()
		perSecond(2, a, b)
		passed := a.passed.Load() + b.passed.Load() - before
		require.LessOrEqual(t, float64(passed), 2*10+10*time.Since(began).
			Seconds(), "a burst here, a burst there, and what came in")
	})
}

// TestTokensIdleElsewhereAreFound checks that nobody is refused below the limit, whichever gateway has the tokens. If a
// busy machine delays Redis, gateways count alone, so there are several tries.
func TestTokensIdleElsewhereAreFound(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, rdb *redis.Client) {
		for range 20 {
			require.NoError(t, rdb.FlushAll(t.Context()).Err())
			left := passAfterRest(t, rdb)
			require.LessOrEqual(t, left, 12+4,
				"no more than is left, but for one each where a slow machine answers late")
			if left >= 12 {
				return
			}
		}
		require.Fail(t, "the tokens of the others were never found")
	})
}

// passAfterRest returns how many requests one of four gateways passes after each has passed two of twenty and rested.
func passAfterRest(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	gateways := make([]*Limiter, 4)
	for i := range gateways {
		var stop func()
		// nothing comes in
		gateways[i], stop = share(t, rdb, fmt.Sprint("gateway-", i), Config{GlobalRPS: 0.001, GlobalBurst: 20})
		defer stop()
	}
	for range 2 {
		for i, g := range gateways {
			require.Equal(t, 1, passes(t, g, 1), i)
		}
	}
	<-time.After(time.Second) // the others request nothing
	return passAtOnce(t, gateways[3], 20)
}

// passAtOnce returns how many of n simultaneous requests pass.
func passAtOnce(t *testing.T, l *Limiter, n int) (passed int) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	for range n {
		all.Go(func() {
			ok := l.AllowTotal(t.Context(), "").OK
			mu.Lock()
			defer mu.Unlock()
			if ok {
				passed++
			}
		})
	}
	all.Wait()
	return passed
}

// TestTheBurstIsWhoevers checks that any gateway can use the whole burst, even while others spend a little.
func TestTheBurstIsWhoevers(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, rdb *redis.Client) {
		cfg := Config{GlobalRPS: 1, GlobalBurst: 40}
		newLoadedLimiter(t, rdb, "a", cfg, 1)
		b, _ := share(t, rdb, "b", cfg)
		require.GreaterOrEqual(t, passAtOnce(t, b, 36), 35)
	})
}

// distant returns a proxy in front of a Redis and a function that creates clients of it.
func distant(t *testing.T) (*testkit.Proxy, func() *redis.Client) {
	t.Helper()
	proxy := testkit.NewProxy(t, testkit.Redis(t).Addr())
	return proxy, func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// TestAHangingRedisRefusesNobodyBelowTheLimit checks the first request and later ones while Redis hangs.
func TestAHangingRedisRefusesNobodyBelowTheLimit(t *testing.T) {
	t.Parallel()
	proxy, client := distant(t)
	cfg := Config{GlobalRPS: 10}
	a, _ := share(t, client(), "a", cfg)
	b, _ := share(t, client(), "b", cfg)
	require.Equal(t, 1, passes(t, a, 1))
	proxy.Pause()
	require.Equal(t, 1, passes(t, b, 1), "the first that it was ever asked")
	for i := range 5 {
		require.Equal(t, 1, passes(t, a, 1), i)
		<-time.After(500 * time.Millisecond)
	}
	proxy.Resume()
}

// TestAHangingRenewalRefusesNobody checks that a hanging renewal of other budgets neither delays a request for long nor
// refuses it.
func TestAHangingRenewalRefusesNobody(t *testing.T) {
	t.Parallel()
	proxy, client := distant(t)
	rps := 10.0
	a, _ := share(t, client(), "a", Config{GlobalRPS: 10, Sales: map[string]SaleConfig{"phone": {TotalRPS: &rps}}})
	general, phone := a.plan.Load().general.budget, a.plan.Load().scopeFor("phone").budget
	pending := func(b *budget) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.pending
	}
	require.Eventually(t, func() bool { // until a renewal of another sale hangs
		proxy.Resume()
		if require.Equal(t, 1, passes(t, a, 1)); pending(phone) || pending(general) {
			return false
		}
		proxy.Pause()
		general.wanted.Store(true)
		return assert.Eventually(t, func() bool {
			return pending(general)
		}, patience, 100*time.Microsecond) && !pending(phone) && phone.leased.Load()
	}, patience, 300*time.Millisecond)
	require.True(t, a.AllowTotal(t.Context(), "phone").OK)
	proxy.Resume()
}

// TestABurstAfterARestIsDemand checks that idle time does not dilute the measured demand.
func TestABurstAfterARestIsDemand(t *testing.T) {
	t.Parallel()
	b, now := newBudget("b", newPolicy("global", 10, 10)), time.Now()
	b.claim("one", now, 0)
	for range 9 {
		b.allow(b.policy, now)
	}
	b.tokens.Store(0)
	b.unshared.Store(0)
	c := b.claim("one", now.Add(2*renewRest), 0)
	require.GreaterOrEqual(t, c.Demand, 9/leastDepth)
	require.GreaterOrEqual(t, c.Wants, int64(9))
}

// TestALeaseOutlastsASlowRenewal checks that a lease lasts longer when Redis answers slowly.
func TestALeaseOutlastsASlowRenewal(t *testing.T) {
	t.Parallel()
	b := newBudget("b", newPolicy("global", 10, 10))
	require.GreaterOrEqual(t, b.claim("one", time.Now(), 300*time.Millisecond).Lapse, renewSlack*300*time.Millisecond)
}

// TestABudgetWithADistantRedis checks that two gateways share a limit with a Redis 250 ms away.
func TestABudgetWithADistantRedis(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Redis(t).Addr())
	proxy.Delay(100 * time.Millisecond)
	rdb := testkit.RedisClient(t, proxy.Addr())
	cfg := Config{GlobalRPS: 1000}
	a, b := newLoadedLimiter(t, rdb, "a", cfg, 1500), newLoadedLimiter(t, rdb, "b", cfg, 1500)
	perSecond(2, a, b) // the burst passes first
	sum := 0.0
	for _, passed := range perSecond(3, a, b) {
		sum += passed
	}
	require.LessOrEqual(t, sum, 3*1000*1.1)
	require.GreaterOrEqual(t, sum, 3*1000*0.75)
}

// TestABrokenBudgetHarmsNoOther checks that a budget with a broken key does not affect others.
func TestABrokenBudgetHarmsNoOther(t *testing.T) {
	t.Parallel()
	onRedis(t, func(t *testing.T, rdb *redis.Client) {
		rps := 0.001
		cfg := Config{Sales: map[string]SaleConfig{"broken": {TotalRPS: &rps, TotalBurst: 5},
			"phone": {TotalRPS: &rps, TotalBurst: 5}}}
		require.NoError(t, rdb.Set(t.Context(), "sluice:{budget/broken}", "no hash", 0).Err())
		a, _ := share(t, rdb, "a", cfg)
		b, _ := share(t, rdb, "b", cfg)
		passed := 0
		for range 5 {
			for _, g := range []*Limiter{a, b} {
				if g.AllowTotal(t.Context(), "phone").OK {
					passed++
				}
			}
		}
		require.GreaterOrEqual(t, passed, 5)
		require.LessOrEqual(t, passed, 7, "shared, not five at each")
		require.True(t, a.AllowTotal(t.Context(), "broken").OK, "its part counts")
	})
}

// TestAnIdleBudgetRests checks that an unused budget is not renewed, and is again at the first request.
func TestAnIdleBudgetRests(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	trips := &testkit.Trips{}
	rdb.AddHook(trips)
	now := time.Now()
	rps := 200.0
	cfg := Config{Sales: map[string]SaleConfig{"phone": {TotalRPS: &rps}}}
	l := New(cfg, func() time.Time { return now }).Shared(budgets.New(rdb, "sluice"), "one")
	gone, leave := context.WithCancel(t.Context())
	leave()
	l.AllowTotal(gone, "phone")
	l.Renew(t.Context())
	require.True(t, l.AllowTotal(gone, "phone").OK)
	for range 2 * renewRest / renewIdle {
		now = now.Add(renewIdle)
		l.Renew(t.Context())
	}
	before := trips.Rounds.Load()
	for range 100 {
		now = now.Add(renewIdle)
		l.Renew(t.Context())
	}
	require.Zero(t, trips.Rounds.Load()-before)
	l.AllowTotal(gone, "phone")
	l.Renew(t.Context())
	require.True(t, l.AllowTotal(gone, "phone").OK)
}
