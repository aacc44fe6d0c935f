package ratelimit

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/fleet/budgets"
	"sluice/internal/testkit"
)

// loadedLimiter is one gateway's limiter with a steady load. rps may be changed at any time.
type loadedLimiter struct {
	limiter *Limiter
	rps     atomic.Int64
	passed  atomic.Int64
	sale    string             // of the requests: one with a limit of its own
	stop    context.CancelFunc // ends its renewals as kill -9 would: nothing is given back
}

func newLoadedLimiter(t *testing.T, rdb redis.UniversalClient, name string, cfg Config, rps int64) *loadedLimiter {
	t.Helper()
	g := &loadedLimiter{limiter: New(cfg, time.Now).Shared(budgets.New(rdb, "sluice"), name)}
	for sale := range cfg.Sales {
		g.sale = sale
	}
	g.rps.Store(rps)
	ctx, cancel := context.WithCancel(t.Context())
	g.limiter.Renew(ctx)
	g.stop = cancel
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		tick := time.NewTicker(renewSoon)
		defer tick.Stop()
		for ctx.Err() == nil {
			g.limiter.Renew(ctx)
			<-tick.C
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		g.shoppers(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
	return g
}

// shoppers sends rps requests a second, even if it is woken late.
func (g *loadedLimiter) shoppers(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	last, due := time.Now(), 0.0
	for ctx.Err() == nil {
		<-tick.C
		now := time.Now()
		due += float64(g.rps.Load()) * now.Sub(last).Seconds()
		for last = now; due >= 1; due-- {
			if g.limiter.AllowTotal(ctx, g.sale).OK {
				g.passed.Add(1)
			}
		}
	}
}

// perSecond returns how many requests of all limiters pass in each of the next n seconds.
func perSecond(n int, limiters ...*loadedLimiter) []float64 {
	sum := func() (all int64) {
		for _, g := range limiters {
			all += g.passed.Load()
		}
		return all
	}
	rates := make([]float64, n)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	was, at := sum(), time.Now()
	for i := range rates {
		<-tick.C
		is, now := sum(), time.Now()
		rates[i] = float64(is-was) / now.Sub(at).Seconds()
		was, at = is, now
	}
	return rates
}

// requireRate checks the next n seconds. At most the limit's rate and burst may pass, and a tenth more for late
// measurements. Too few may be the fault of a busy machine, so there are several tries.
func requireRate(t *testing.T, want float64, n int, limiters ...*loadedLimiter) {
	t.Helper()
	burst := 0.0
	if p := limiters[0].limiter.plan.Load().general.total; p.rps == want {
		burst = float64(p.burst)
	}
	for chances := 20; ; chances-- {
		got, sum, good := perSecond(n, limiters...), 0.0, true
		for _, rate := range got {
			sum += rate
			require.LessOrEqual(t, rate, max(1.3*want, 1.2*(want+burst)), "per second: %.0f", got)
			good = good && rate >= 0.7*want
		}
		mean := sum / float64(n)
		require.LessOrEqual(t, mean, 1.1*(want+burst/float64(n)), "per second: %.0f", got)
		if good && mean >= 0.95*want {
			return
		}
		require.Positive(t, chances, "per second: %.0f", got)
	}
}

// thousand returns a limit of 1,000 a second with a small burst.
func thousand() Config { return Config{GlobalRPS: 1000, GlobalBurst: 100} }

func TestGatewaysSpendOneBudget(t *testing.T) {
	t.Parallel()
	for name, rps := range map[string][2]int64{"evenly": {3000, 3000}, "unevenly": {20_000, 1000},
		"one of them idle": {3000, 0}, "just over": {600, 500}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := testkit.Redis(t).Client()
			a, b := newLoadedLimiter(t, rdb, "a", thousand(), rps[0]), newLoadedLimiter(t, rdb, "b", thousand(), rps[1])
			perSecond(3, a, b)
			requireRate(t, 1000, 3, a, b)
			most, least := float64(a.passed.Load()), float64(b.passed.Load())
			require.GreaterOrEqual(t, least/(most+least), 0.7*float64(rps[1])/float64(rps[0]+rps[1]),
				"a quiet gateway is not starved")
			require.GreaterOrEqual(t, most/(most+least), 0.7*float64(rps[0])/float64(rps[0]+rps[1]),
				"a busy one gets the more")
		})
	}
}

func TestABudgetSurvivesAGateway(t *testing.T) {
	t.Parallel()
	rdb := testkit.Redis(t).Client()
	cfg := Config{GlobalRPS: 1000}
	a, b := newLoadedLimiter(t, rdb, "a", cfg, 3000), newLoadedLimiter(t, rdb, "b", cfg, 3000)
	perSecond(2, a, b) // the burst of a whole second
	requireRate(t, 1000, 2, a, b)
	b.stop()
	requireRate(t, 1000, 3, a, b)
	left := a.limiter.plan.Load().general.budget
	left.mu.Lock()
	defer left.mu.Unlock()
	require.Greater(t, left.part, 0.99, "all is its own now")
}

// TestABudgetRefusesNobodyBelowTheLimit checks that nobody is refused below the limit, even when the load moves to
// another gateway.
func TestABudgetRefusesNobodyBelowTheLimit(t *testing.T) {
	t.Parallel()
	rdb := testkit.Redis(t).Client()
	cfg := Config{GlobalRPS: 2000}
	a, b := newLoadedLimiter(t, rdb, "a", cfg, 900), newLoadedLimiter(t, rdb, "b", cfg, 0)
	requireRate(t, 900, 2, a, b)
	a.rps.Store(0)
	b.rps.Store(900)
	requireRate(t, 900, 2, a, b)
}

// TestABudgetWithoutRedis checks that each gateway goes on with its last part without Redis. Afterwards that time must
// not count twice.
func TestABudgetWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	client := func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true,
			DialTimeout: 50 * time.Millisecond})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	a, b := newLoadedLimiter(t, client(), "a", thousand(), 6000), newLoadedLimiter(t, client(), "b", thousand(), 2000)
	perSecond(2, a, b)
	proxy.Cut()
	perSecond(1, a, b)
	requireRate(t, 1000, 2, a, b)
	require.False(t, a.limiter.plan.Load().general.budget.leased.Load())
	require.NoError(t, proxy.Heal())
	perSecond(2, a, b)
	requireRate(t, 1000, 2, a, b)
	require.True(t, a.limiter.plan.Load().general.budget.leased.Load())
}

func TestASaleWithLimitsOfItsOwn(t *testing.T) {
	t.Parallel()
	two, ten := 2.0, 10.0
	cfg := Config{GlobalRPS: 3, PerUserRPS: 1, Sales: map[string]SaleConfig{"phone": {TotalRPS: &two},
		"tv": {PerUserRPS: &ten}}}
	l := New(cfg, fixedClock)
	passed := func(allow func() Decision) (n int) {
		for range 20 {
			if allow().OK {
				n++
			}
		}
		return n
	}
	require.Equal(t, 2, passed(func() Decision { return l.AllowTotal(t.Context(), "phone") }))
	require.Equal(t, "sale", l.AllowTotal(t.Context(), "phone").Policy)
	require.Equal(t, 3, passed(func() Decision {
		return l.AllowTotal(t.Context(), "tv")
	}), "it shares the general budget")
	require.Zero(t, passed(func() Decision { return l.AllowTotal(t.Context(), "other") }))
	require.Equal(t, 1, passed(func() Decision { return l.AllowUser("phone", "ann") }))
	require.Zero(t, passed(func() Decision {
		return l.AllowUser("other", "ann")
	}), "one limit over all sales without their own")
	require.Equal(t, 10, passed(func() Decision { return l.AllowUser("tv", "ann") }))
	l.Set(cfg)
	require.False(t, l.AllowTotal(t.Context(), "phone").OK, "what was used stays used")

	off := 0.0
	l.Set(Config{GlobalRPS: 3, PerUserReadsRPS: 2, PerIPRPS: 4, Sales: map[string]SaleConfig{
		"phone": {PerUserReadsRPS: &ten, PerIPRPS: &two}, "tv": {PerUserReadsRPS: &off, PerIPRPS: &off}}})
	read := func(sale string) int { return passed(func() Decision { return l.AllowRead(sale, "ann") }) }
	require.Equal(t, []int{10, 20, 2, 0}, []int{read("phone"), read("tv"), read("other"), read("")},
		"lists count with the sales that have none of their own")
	from := func(sale string) int { return passed(func() Decision { return l.AllowAnonymous(sale, "192.0.2.1") }) }
	require.Equal(t, []int{2, 20, 4, 0}, []int{from("phone"), from("tv"), from("other"), from("")})
	require.Equal(t, 20, passed(func() Decision {
		return l.AllowUser("other", "ann")
	}), "reading takes nothing from ordering")
	l.Set(Config{GlobalRPS: 3})
	require.False(t, l.AllowTotal(t.Context(), "phone").OK, "it counts with the others again")
}

func TestSaleLimitsAreChecked(t *testing.T) {
	t.Parallel()
	bad, good := -1.0, 1.0
	err := Config{Sales: map[string]SaleConfig{"a b": {}, "phone": {TotalRPS: &bad, PerUserBurst: 3,
		PerUserReadsBurst: 2, PerIPRPS: &bad}}}.Validate()
	require.ErrorContains(t, err, `limits.sales must name sales by their id, got "a b"`)
	require.ErrorContains(t, err, "limits.sales: phone.global_rps must be 0 (off) or between")
	require.ErrorContains(t, err, "limits.sales: phone has per_user_burst without per_user_rps")
	require.ErrorContains(t, err, "limits.sales: phone has per_user_reads_burst without per_user_reads_rps")
	require.ErrorContains(t, err, "limits.sales: phone.per_ip_rps must be 0 (off) or between")
	many := map[string]SaleConfig{}
	for i := range maxSaleLimits + 1 {
		many[fmt.Sprint(i)] = SaleConfig{TotalRPS: &good}
	}
	require.ErrorContains(t, Config{Sales: many}.Validate(), "at most 64 sales, got 65")
}

// share returns a gateway's shared limiter; stop ends it and gives back its tokens.
func share(t testing.TB, rdb redis.UniversalClient, name string, cfg Config) (l *Limiter, stop func()) {
	t.Helper()
	l = New(cfg, time.Now).Shared(budgets.New(rdb, "sluice"), name)
	ctx, cancel := context.WithCancel(context.Background())
	l.Renew(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return l, stop
}

// passes returns how many of n requests pass.
func passes(t testing.TB, l *Limiter, n int) (passed int) {
	t.Helper()
	for range n {
		if l.AllowTotal(t.Context(), "").OK {
			passed++
		}
	}
	return passed
}

// TestABudgetIsGivenBack checks that a gateway that stops gives back its tokens at once.
func TestABudgetIsGivenBack(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	cfg := Config{GlobalRPS: 0.001, GlobalBurst: 1000} // practically no refill
	a, stop := share(t, rdb, "a", cfg)
	require.Equal(t, 300, passes(t, a, 300))
	stop()
	b, _ := share(t, rdb, "b", cfg)
	require.InDelta(t, 700, passes(t, b, 710), 2, "one more where a slow machine answers late")
}

func BenchmarkBudget(b *testing.B) {
	l := New(Config{GlobalRPS: 50_000}, time.Now)
	budget := l.plan.Load().general.budget
	budget.leased.Store(true)
	budget.tokens.Store(1 << 60)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.AllowTotal(b.Context(), "phone")
		}
	})
}

func TestABudgetAllocatesNothing(t *testing.T) {
	l := New(Config{GlobalRPS: 50_000}, time.Now)
	l.plan.Load().general.budget.leased.Store(true)
	l.plan.Load().general.budget.tokens.Store(1 << 60)
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() { l.AllowTotal(ctx, "phone") }))
}

// TestBudgetsAreRenewedTogether checks that budgets of many sales are renewed in one round trip. One by one, their
// leases would end meanwhile.
func TestBudgetsAreRenewedTogether(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	trips := &testkit.Trips{}
	rdb.AddHook(trips)
	rps, now := 200.0, time.Now()
	cfg := Config{GlobalRPS: 1000, Sales: map[string]SaleConfig{}}
	for i := range maxSaleLimits {
		cfg.Sales[fmt.Sprint("sale-", i)] = SaleConfig{TotalRPS: &rps}
	}
	l := New(cfg, func() time.Time { return now }).Shared(budgets.New(rdb, "sluice"), "one")
	l.Renew(t.Context()) // loads the script
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 3 {
		for sale := range cfg.Sales {
			require.False(t, l.AllowTotal(gone, sale).OK, "it asks, and does not wait")
		}
		before := trips.Rounds.Load()
		l.Renew(t.Context())
		require.EqualValues(t, 1, trips.Rounds.Load()-before)
		for sale := range cfg.Sales {
			require.True(t, l.AllowTotal(gone, sale).OK)
			l.plan.Load().scopeFor(sale).budget.tokens.Store(0)
		}
		now = now.Add(time.Second)
	}
}
