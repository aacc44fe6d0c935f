package inventory_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

func TestCapPolicy(t *testing.T) {
	t.Parallel()
	measured := func(perSecond float64) inventory.Drain { return inventory.Drain{PerSecond: perSecond, Measured: true} }
	wait := inventory.CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}
	for _, c := range []struct {
		policy inventory.CapPolicy
		own    int
		drain  inventory.Drain
		want   int
	}{
		{inventory.CapPolicy{Cap: 100, MinCap: 10}, 0, measured(5000), 100},
		{inventory.CapPolicy{Cap: 100, MinCap: 10}, 700, measured(5000), 700},
		{wait, 0, measured(100), 3000},
		{wait, 0, inventory.Drain{PerSecond: 100, Measured: true, InWork: 800}, 3000},
		{wait, 0, measured(5000), 10_000},
		{wait, 0, measured(0.1), 10},
		{wait, 0, inventory.Drain{PerSecond: inventory.FirstDrainRate}, 10},
		{wait, 2000, measured(100), 2000},
		{wait, 4000, measured(100), 3000},
		{wait, 40_000, measured(1000), 30_000},
		{wait, 5, measured(100), 5},
		{wait, 5, inventory.Drain{PerSecond: inventory.FirstDrainRate}, 5},
		{inventory.CapPolicy{Cap: 10, MinCap: 10, MaxWait: time.Hour}, 0, measured(math.MaxFloat64), 10},
	} {
		require.Equal(t, c.want, c.policy.Of(c.own, c.drain), "%+v own %d at %+v", c.policy, c.own, c.drain)
	}
}

// A new line, and a process that has just started, go by what was measured last, by whomever.
func TestTheDrainRateIsKeptForOthers(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	log := slog.New(slog.DiscardHandler)
	w.Open(1000, 1)
	known := func(b *inventory.SaleCache) inventory.Drain {
		t.Helper()
		require.NoError(t, b.Recall(w.Ctx))
		require.NoError(t, b.Refresh(w.Ctx))
		e, ok := b.Get(orders.Sale)
		require.True(t, ok)
		return e.Drain()
	}
	require.False(t, known(inventory.NewSaleCache(w.Sales, w.Lines, log, w.Clock.Now)).Measured)

	// A line drains for a second; this cache looks at it.
	w.AdmitMany(400)
	w.Cache.Look(w.Ctx)
	lineClock := time.NewTicker(20 * time.Millisecond) // the drain rate of this line, by Redis' clock
	defer lineClock.Stop()
	began := time.Now()
	for n := 0; time.Since(began) < 1200*time.Millisecond; n++ {
		w.Clock.Advance(time.Second)
		batch, err := w.Line.Claim(w.Ctx, fmt.Sprint("batch-", n), 1, time.Minute)
		require.NoError(t, err)
		require.NoError(t, w.Line.Settle(w.Ctx, batch, []queue.Outcome{{ID: batch.Tickets[0].ID, Op: queue.OpConfirm}}))
		w.Cache.Look(w.Ctx)
		<-lineClock.C
	}
	w.Clock.Advance(2 * time.Second)
	w.Cache.Look(w.Ctx)
	drain := entry(w).Drain()
	require.True(t, drain.Measured)
	require.Less(t, drain.PerSecond, 51.0)

	other := inventory.NewSaleCache(w.Sales, w.Lines, log, w.Clock.Now)
	got := known(other)
	require.True(t, got.Measured)
	require.InEpsilon(t, drain.PerSecond, got.PerSecond, 0.2)
	w.Create(orders.NewSale("next", 10, 1))
	require.NoError(t, other.Refresh(w.Ctx))
	next, _ := other.Get("next")
	require.Equal(t, got, next.Drain())
}

// pacing confirms each batch after the time that a database of so many orders a second would take.
type pacing struct {
	perSecond float64
	mu        sync.Mutex
	next      time.Time     // when the batch in work is done: a wake-up that is a little late slows nothing down
	stalled   time.Duration // had no batch, though there were tickets: a busy machine took this time
	ended     map[string]time.Time
}

func (p *pacing) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	p.mu.Lock()
	if now := time.Now(); now.Sub(p.next) > 200*time.Millisecond {
		if !p.next.IsZero() {
			p.stalled += now.Sub(p.next)
		}
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(len(b.Tickets)) / p.perSecond * float64(time.Second)))
	timer := time.NewTimer(time.Until(p.next))
	p.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	outcomes := make([]queue.Outcome, len(b.Tickets))
	for i, t := range b.Tickets {
		outcomes[i] = queue.Outcome{ID: t.ID, Op: queue.OpConfirm}
		p.ended[t.ID] = time.Now()
	}
	return outcomes, nil
}

func (p *pacing) Bury(context.Context, queue.Batch, string) ([]queue.Outcome, error) { return nil, nil }

// Whatever the drain rate is, the cap follows it from a cold start: under a steady
// load the expected wait is the real one, and nobody waits for longer than was
// promised, not even who came first.
//
// It does not run beside other tests of its package: a load is steady only
// where the processor is.
func TestExpectedWaitIsTheRealOne(t *testing.T) {
	for _, c := range []struct {
		rate        float64
		batch, pool int
	}{{60, 20, 2}, {600, 50, 2}} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			t.Parallel()
			w := orders.NewEmpty(t, tables.New(t, store.SQLite), testkit.Redis(t).Addr())
			p := &promise{World: w, rate: c.rate, promises: map[string]expected{}}
			p.run(c.batch, c.pool)
			p.checkPromises()
		})
	}
}

// promised is the longest wait that the tests promise.
const promised = 3 * time.Second

// promise is a sale whose shoppers were promised a wait.
type promise struct {
	*orders.World
	rate     float64 // of the database, tickets per second
	cache    *inventory.SaleCache
	promises map[string]expected
	full     int // refused because the line was full

	handler *pacing
	caps    []int64 // at the end of each second
}

// expected is what one shopper was promised.
type expected struct {
	at     time.Time
	wait   time.Duration
	warmed bool // after the first seconds, in which the rate is measured
}

// run lets ten seconds' worth come at once, before anything is known, and then twice as many as can be served, until
// the line is drained.
func (p *promise) run(batch, pool int) {
	w := p.World
	w.Open(1_000_000, 1)
	p.cache = inventory.NewSaleCache(w.Sales, w.Lines, slog.New(slog.DiscardHandler), time.Now)
	w.Reconciler.MeasuredBy(func(sale string) inventory.Drain {
		if e, ok := p.cache.Get(sale); ok {
			return e.Drain()
		}
		return inventory.Drain{PerSecond: inventory.FirstDrainRate}
	})
	w.Reconciler.SetCaps(inventory.CapPolicy{Cap: 1_000_000, MinCap: 20, MaxWait: promised})
	p.handler = &pacing{perSecond: p.rate, ended: map[string]time.Time{}}
	cfg := queue.DefaultConfig()
	cfg.Batch = batch
	consumer, err := worker.New(worker.Options{
		Config: cfg, Pool: worker.PoolConfig{Size: pool}, Lines: w.Lines, Sales: p.cache.Active, Handler: p.handler,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(w.T, err)
	require.NoError(w.T, p.cache.Refresh(w.Ctx))
	w.CatchUp()
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { p.cache.Run(ctx) })
	loops.Go(func() { w.Reconciler.Run(ctx) })
	loops.Go(func() { _ = consumer.Run(ctx) })
	defer loops.Wait()
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began, n, looked := time.Now(), 0, 0
	for took := time.Duration(0); took < 9*time.Second; took = time.Since(began) {
		for due := int(p.rate * (10 + 2*took.Seconds())); n < due; {
			size := min(due-n, queue.MaxAdmit)
			p.admit(n, size, took > 4*time.Second)
			n += size
		}
		if second := int(took / time.Second); second > looked {
			looked = second
			v, err := w.Line.View(w.Ctx)
			require.NoError(w.T, err)
			p.caps = append(p.caps, v.Cap)
		}
		<-tick.C
	}
	require.Eventually(w.T, func() bool {
		v, err := w.Line.View(w.Ctx)
		return err == nil && !v.InFlight()
	}, 20*time.Second, 50*time.Millisecond)
}

func (p *promise) admit(from, size int, warmed bool) {
	requests := make([]queue.Request, size)
	for i := range requests {
		id := fmt.Sprintf("order-%06d", from+i)
		requests[i] = queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"}
	}
	e, ok := p.cache.Get(p.Line.Sale())
	require.True(p.T, ok)
	drain := e.Drain()
	answers, err := p.Line.Admit(p.Ctx, e.Sale.Epoch, drain.PerSecond, requests)
	require.NoError(p.T, err)
	for _, a := range answers {
		if a.Err != nil {
			require.ErrorIs(p.T, a.Err, queue.ErrFull)
			p.full++
			continue
		}
		wait := float64(a.Ticket.Position+drain.InWork) / drain.PerSecond
		p.promises[a.Ticket.ID] = expected{time.Now(), time.Duration(wait * float64(time.Second)), warmed}
		if warmed {
			require.InDelta(p.T, wait, a.Ticket.ETASeconds, 1.5, "the 202 says the same")
		}
	}
}

// checkPromises compares what everybody was promised with what came.
func (p *promise) checkPromises() {
	require.Positive(p.T, p.full, "the cap has refused")
	p.handler.mu.Lock()
	defer p.handler.mu.Unlock()
	var wrong, waits []float64
	for id, e := range p.promises {
		real := p.handler.ended[id].Sub(e.at).Seconds()
		waits = append(waits, real)
		if e.warmed {
			wrong = append(wrong, math.Abs(e.wait.Seconds()-real)/real)
		}
	}
	slices.Sort(wrong)
	slices.Sort(waits)
	require.Greater(p.T, float64(len(wrong)), 3*p.rate)
	last := p.caps[len(p.caps)-1]
	p.T.Logf("%v/s: %d orders, caps by second %v, median error %.3f, median wait %.2fs, longest %.2fs", p.rate,
		len(waits), p.caps,
		wrong[len(wrong)/2], waits[len(waits)/2], waits[len(waits)-1])
	stalled := p.handler.stalled.Seconds()
	p.T.Logf("the machine took %.2fs", stalled)
	fast, slow := 1.35*p.rate*promised.Seconds(), 0.65*p.rate*max(promised.Seconds()-stalled, 0)
	require.InDelta(p.T, (fast+slow)/2, last, (fast-slow)/2, "the cap follows the drain rate")
	require.Less(p.T, wrong[len(wrong)/2], 0.3+stalled/promised.Seconds())
	require.Less(p.T, waits[len(waits)*95/100], 1.2*promised.Seconds()+stalled,
		"the promise holds, from the first order on")
	require.Greater(p.T, waits[len(waits)/2], 0.5*promised.Seconds(), "and the line is used")
}
