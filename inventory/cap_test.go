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
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/queue"
	"sluice/queue/worker"
	"sluice/store"
)

func TestCapPolicy(t *testing.T) {
	t.Parallel()
	measured := func(perSecond float64) inventory.Pace { return inventory.Pace{PerSecond: perSecond, Measured: true} }
	wait := inventory.CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}
	for _, c := range []struct {
		policy inventory.CapPolicy
		own    int
		pace   inventory.Pace
		want   int
	}{
		{inventory.CapPolicy{Cap: 100, MinCap: 10}, 0, measured(5000), 100},
		{inventory.CapPolicy{Cap: 100, MinCap: 10}, 700, measured(5000), 700},
		{wait, 0, measured(100), 3000},
		{wait, 0, inventory.Pace{PerSecond: 100, Measured: true, InWork: 800}, 3000},
		{wait, 0, measured(5000), 10_000},
		{wait, 0, measured(0.1), 10},
		{wait, 0, inventory.Pace{PerSecond: inventory.FirstRate}, 10},
		{wait, 2000, measured(100), 2000},
		{wait, 4000, measured(100), 3000},
		{wait, 40_000, measured(1000), 30_000},
		{wait, 5, measured(100), 5},
		{wait, 5, inventory.Pace{PerSecond: inventory.FirstRate}, 5},
		{inventory.CapPolicy{Cap: 10, MinCap: 10, MaxWait: time.Hour}, 0, measured(math.MaxFloat64), 10},
	} {
		require.Equal(t, c.want, c.policy.Of(c.own, c.pace), "%+v own %d at %+v", c.policy, c.own, c.pace)
	}
}

// Open lines follow the caps; of a promised wait and a sale's own cap the smaller one counts.
func TestKeeperCarriesCaps(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	lineCap := func() int64 {
		w.keep()
		v, err := w.line.View(w.ctx)
		require.NoError(t, err)
		return v.Cap
	}
	pace := inventory.Pace{PerSecond: 200}
	w.reconciler.MeasuredBy(func(string) inventory.Pace { return pace })
	w.reconciler.SetCaps(inventory.CapPolicy{Cap: 321})
	require.EqualValues(t, 321, lineCap())
	policy := inventory.CapPolicy{Cap: 10_000, MinCap: 50, MaxWait: 10 * time.Second}
	w.reconciler.SetCaps(policy)
	require.EqualValues(t, 50, lineCap(), "nobody has measured anything")
	pace.Measured = true
	require.EqualValues(t, 2000, lineCap())
	pace.PerSecond = 205
	require.EqualValues(t, 2000, lineCap(), "a small movement is not worth a call")
	pace.PerSecond = 100
	require.EqualValues(t, 1000, lineCap())
	policy.Cap = 990
	w.reconciler.SetCaps(policy)
	require.EqualValues(t, 990, lineCap(), "a bound is exact")

	own := 400
	sale, _ := w.get()
	_, _, err := w.saleStore.Update(w.ctx, sale.ID, inventory.Change{Cap: &own}, "ann", "")
	require.NoError(t, err)
	require.EqualValues(t, 400, lineCap())
	pace.PerSecond = 30
	require.EqualValues(t, 300, lineCap(), "the wait is promised to this sale's shoppers, too")
	pace.PerSecond = 1000
	require.EqualValues(t, 400, lineCap())
	policy.MaxWait = 0
	pace.PerSecond = 1
	w.reconciler.SetCaps(policy)
	require.EqualValues(t, 400, lineCap())
}

// A new line, and a process that has just started, go by what was measured last, by whomever.
func TestThePaceIsKeptForOthers(t *testing.T) {
	w := onSQLite(t)
	log := slog.New(slog.DiscardHandler)
	w.open(1000, 1)
	known := func(b *inventory.SaleCache) inventory.Pace {
		t.Helper()
		require.NoError(t, b.Recall(w.ctx))
		require.NoError(t, b.Refresh(w.ctx))
		e, ok := b.Get(theSale)
		require.True(t, ok)
		return e.Pace()
	}
	require.False(t, known(inventory.NewSaleCache(w.saleStore, w.lines, log, w.clock.Now)).Measured)

	// A line drains for a second; this cache looks at it.
	w.admitMany(400)
	w.cache.Look(w.ctx)
	lineClock := time.NewTicker(20 * time.Millisecond) // the pace of this line, by Redis' clock
	defer lineClock.Stop()
	began := time.Now()
	for n := 0; time.Since(began) < 1200*time.Millisecond; n++ {
		w.clock.Advance(time.Second)
		batch, err := w.line.Claim(w.ctx, fmt.Sprint("batch-", n), 1, time.Minute)
		require.NoError(t, err)
		require.NoError(t, w.line.Settle(w.ctx, batch, []queue.Outcome{{ID: batch.Tickets[0].ID, Op: queue.OpConfirm}}))
		w.cache.Look(w.ctx)
		<-lineClock.C
	}
	w.clock.Advance(2 * time.Second)
	w.cache.Look(w.ctx)
	pace := w.entry().Pace()
	require.True(t, pace.Measured)
	require.Less(t, pace.PerSecond, 51.0)

	other := inventory.NewSaleCache(w.saleStore, w.lines, log, w.clock.Now)
	got := known(other)
	require.True(t, got.Measured)
	require.InEpsilon(t, pace.PerSecond, got.PerSecond, 0.2)
	w.create(newSale("next", 10, 1))
	require.NoError(t, other.Refresh(w.ctx))
	next, _ := other.Get("next")
	require.Equal(t, got, next.Pace())
}

// pacing confirms each batch after the time that a database of so many orders a second would take.
type pacing struct {
	perSecond float64
	mu        sync.Mutex
	next      time.Time // when the batch in work is done: a wake-up that is a little late does not slow the pace
	ended     map[string]time.Time
}

func (p *pacing) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	p.mu.Lock()
	if now := time.Now(); now.Sub(p.next) > 200*time.Millisecond {
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

// Whatever the pace is, the cap follows it from a cold start: under a steady
// load the expected wait is the real one, and nobody waits for longer than was
// promised, not even who came first.
//
// It does not run beside other tests of its package: a load is steady only
// where the processor is.
func TestExpectedWaitIsTheRealOne(t *testing.T) {
	for _, c := range []struct {
		pace        float64
		batch, pool int
	}{{60, 20, 2}, {600, 50, 2}} {
		t.Run(fmt.Sprint(c.pace), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tables.New(t, store.SQLite), testkit.Redis(t).Addr())
			p := &promise{world: w, pace: c.pace, told: map[string]expected{}}
			p.run(c.batch, c.pool)
			p.judge()
		})
	}
}

// promised is the longest wait that the tests promise.
const promised = 3 * time.Second

// promise is a sale whose shoppers were promised a wait.
type promise struct {
	*world
	pace  float64 // of the database, tickets per second
	cache *inventory.SaleCache
	told  map[string]expected
	full  int // refused because the line was full

	handler *pacing
	caps    []int64 // at the end of each second
}

// expected is what one shopper was told.
type expected struct {
	at     time.Time
	wait   time.Duration
	warmed bool // after the first seconds, which teach the pace
}

// run lets ten seconds' worth come at once, before anything is known, and then twice as many as can be served, until
// the line is drained.
func (p *promise) run(batch, pool int) {
	w := p.world
	w.open(1_000_000, 1)
	p.cache = inventory.NewSaleCache(w.saleStore, w.lines, slog.New(slog.DiscardHandler), time.Now)
	w.reconciler.MeasuredBy(func(sale string) inventory.Pace {
		if e, ok := p.cache.Get(sale); ok {
			return e.Pace()
		}
		return inventory.Pace{PerSecond: inventory.FirstRate}
	})
	w.reconciler.SetCaps(inventory.CapPolicy{Cap: 1_000_000, MinCap: 20, MaxWait: promised})
	p.handler = &pacing{perSecond: p.pace, ended: map[string]time.Time{}}
	cfg := queue.DefaultConfig()
	cfg.Batch = batch
	consumer, err := worker.New(worker.Options{
		Config: cfg, Pool: worker.PoolConfig{Size: pool}, Lines: w.lines, Sales: p.cache.Active, Handler: p.handler,
		Log: slog.New(slog.DiscardHandler), Now: time.Now, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(w.t, err)
	require.NoError(w.t, p.cache.Refresh(w.ctx))
	w.keep()
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { p.cache.Run(ctx) })
	loops.Go(func() { w.reconciler.Run(ctx) })
	loops.Go(func() { _ = consumer.Run(ctx) })
	defer loops.Wait()
	defer cancel()

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began, n, looked := time.Now(), 0, 0
	for took := time.Duration(0); took < 9*time.Second; took = time.Since(began) {
		for due := int(p.pace * (10 + 2*took.Seconds())); n < due; {
			size := min(due-n, queue.MaxAdmit)
			p.admit(n, size, took > 4*time.Second)
			n += size
		}
		if second := int(took / time.Second); second > looked {
			looked = second
			v, err := w.line.View(w.ctx)
			require.NoError(w.t, err)
			p.caps = append(p.caps, v.Cap)
		}
		<-tick.C
	}
	require.Eventually(w.t, func() bool {
		v, err := w.line.View(w.ctx)
		return err == nil && !v.InFlight()
	}, 20*time.Second, 50*time.Millisecond)
}

func (p *promise) admit(from, size int, warmed bool) {
	requests := make([]queue.Request, size)
	for i := range requests {
		id := fmt.Sprintf("order-%06d", from+i)
		requests[i] = queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"}
	}
	e, ok := p.cache.Get(p.line.Sale())
	require.True(p.t, ok)
	pace := e.Pace()
	answers, err := p.line.Admit(p.ctx, e.Sale.Epoch, pace.PerSecond, requests)
	require.NoError(p.t, err)
	for _, a := range answers {
		if a.Err != nil {
			require.ErrorIs(p.t, a.Err, queue.ErrFull)
			p.full++
			continue
		}
		wait := float64(a.Ticket.Position+pace.InWork) / pace.PerSecond
		p.told[a.Ticket.ID] = expected{time.Now(), time.Duration(wait * float64(time.Second)), warmed}
		if warmed {
			require.InDelta(p.t, wait, a.Ticket.ETASeconds, 1.5, "the 202 says the same")
		}
	}
}

// judge compares what everybody was told with what came.
func (p *promise) judge() {
	require.Positive(p.t, p.full, "the cap has refused")
	p.handler.mu.Lock()
	defer p.handler.mu.Unlock()
	var wrong, waits []float64
	for id, e := range p.told {
		real := p.handler.ended[id].Sub(e.at).Seconds()
		waits = append(waits, real)
		if e.warmed {
			wrong = append(wrong, math.Abs(e.wait.Seconds()-real)/real)
		}
	}
	slices.Sort(wrong)
	slices.Sort(waits)
	require.Greater(p.t, float64(len(wrong)), 3*p.pace)
	last := p.caps[len(p.caps)-1]
	p.t.Logf("%v/s: %d orders, caps by second %v, median error %.3f, median wait %.2fs, longest %.2fs", p.pace,
		len(waits), p.caps,
		wrong[len(wrong)/2], waits[len(waits)/2], waits[len(waits)-1])
	require.InEpsilon(p.t, p.pace*promised.Seconds(), last, 0.35, "the cap follows the pace")
	require.Less(p.t, wrong[len(wrong)/2], 0.3)
	require.Less(p.t, waits[len(waits)*95/100], 1.2*promised.Seconds(), "the promise holds, from the first order on")
	require.Greater(p.t, waits[len(waits)/2], 0.5*promised.Seconds(), "and the line is used")
}
