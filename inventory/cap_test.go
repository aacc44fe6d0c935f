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
	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
)

func TestCapPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy inventory.CapPolicy
		rate   float64
		want   int
	}{
		{inventory.CapPolicy{Cap: 100, MinCap: 10}, 5000, 100},
		{inventory.CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}, 100, 3000},
		{inventory.CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}, 5000, 10_000},
		{inventory.CapPolicy{Cap: 10_000, MinCap: 10, MaxWait: 30 * time.Second}, 0.1, 10},
		{inventory.CapPolicy{Cap: 10, MinCap: 10, MaxWait: time.Hour}, math.MaxFloat64, 10},
	} {
		require.Equal(t, c.want, c.policy.Of(c.rate), "%+v at %v", c.policy, c.rate)
	}
}

// Open lines follow the caps; sales with a cap of their own do not.
func TestKeeperCarriesCaps(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	lineCap := func() int64 {
		v, err := w.line.View(w.ctx)
		require.NoError(t, err)
		return v.Cap
	}
	rate := 200.0
	w.keeper.MeasuredBy(func(string) float64 { return rate })
	w.keeper.SetCaps(inventory.CapPolicy{Cap: 321})
	w.keep()
	require.EqualValues(t, 321, lineCap())
	w.keeper.SetCaps(inventory.CapPolicy{Cap: 10_000, MinCap: 50, MaxWait: 10 * time.Second})
	w.keep()
	require.EqualValues(t, 2000, lineCap())
	rate = 205
	w.keep()
	require.EqualValues(t, 2000, lineCap(), "a small movement is not worth a call")
	rate = 100
	w.keep()
	require.EqualValues(t, 1000, lineCap())
	own := 77
	sale, _ := w.get()
	_, err := w.catalog.Update(w.ctx, sale.ID, inventory.Change{Cap: &own}, "ann", "")
	require.NoError(t, err)
	w.keep()
	rate = 1000
	w.keep()
	require.EqualValues(t, 77, lineCap())
}

// pacing confirms each batch after the time that a database of so many orders a second would take.
type pacing struct {
	perSecond float64
	mu        sync.Mutex
	next      time.Time // when the batch in work is done: a late wake-up does not slow the pace
	ended     map[string]time.Time
}

func (p *pacing) Handle(ctx context.Context, b queue.Batch) ([]queue.Outcome, error) {
	p.mu.Lock()
	if now := time.Now(); now.Sub(p.next) > time.Second {
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

// Under a steady load the expected wait is the real one, and nobody waits for
// longer than was promised.
//
// It does not run beside others: a load is steady only where the processor is.
func TestExpectedWaitIsTheRealOne(t *testing.T) {
	w := newWorld(t, testkit.NewDatabase(t, store.SQLite), testkit.Embedded(t).Addr())
	const pace, promised = 300.0, 3 * time.Second
	w.open(100_000, 1)
	sale, _ := w.get()
	book := inventory.NewBook(w.catalog, w.lines, slog.New(slog.DiscardHandler), time.Now)
	w.keeper.MeasuredBy(func(sale string) float64 {
		e, ok := book.Get(sale)
		if !ok {
			return inventory.FirstRate
		}
		return e.Rate()
	})
	w.keeper.SetCaps(inventory.CapPolicy{Cap: 1_000_000, MinCap: 10, MaxWait: promised})
	handler := &pacing{perSecond: pace, ended: map[string]time.Time{}}
	cfg := queue.DefaultConfig()
	cfg.Batch = 50
	consumer, err := queue.NewConsumer(cfg, queue.PoolConfig{Size: 1}, w.lines, book.Active, handler, slog.New(slog.DiscardHandler), time.Now,
		prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, book.Refresh(w.ctx))
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { book.Run(ctx) })
	loops.Go(func() { w.keeper.Run(ctx) })
	loops.Go(func() { _ = consumer.Run(ctx) })
	defer loops.Wait()
	defer cancel()

	// More come than can be served; the first seconds teach the pace.
	type expected struct {
		at   time.Time
		wait time.Duration
	}
	told := map[string]expected{}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began, n, full := time.Now(), 0, 0
	for time.Since(began) < 12*time.Second {
		<-tick.C
		requests := make([]queue.Request, 12)
		for i := range requests {
			n++
			id := fmt.Sprintf("order-%06d", n)
			requests[i] = queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"}
		}
		e, ok := book.Get(w.line.Sale())
		require.True(t, ok)
		answers, err := w.line.Admit(w.ctx, sale.Epoch, e.Rate(), requests)
		require.NoError(t, err)
		for _, a := range answers {
			if a.Err != nil {
				require.ErrorIs(t, a.Err, queue.ErrFull)
				full++
			} else if time.Since(began) > 5*time.Second {
				told[a.Ticket.ID] = expected{time.Now(), time.Duration(float64(a.Ticket.Position) / e.Rate() * float64(time.Second))}
			}
		}
	}
	require.Eventually(t, func() bool {
		v, err := w.line.View(w.ctx)
		return err == nil && !v.InFlight()
	}, 20*time.Second, 50*time.Millisecond)
	require.Positive(t, full, "the cap has refused")

	handler.mu.Lock()
	defer handler.mu.Unlock()
	var wrong, waits []float64
	for id, e := range told {
		real := handler.ended[id].Sub(e.at).Seconds()
		wrong = append(wrong, math.Abs(e.wait.Seconds()-real)/real)
		waits = append(waits, real)
	}
	slices.Sort(wrong)
	slices.Sort(waits)
	require.Greater(t, len(wrong), 1000)
	t.Logf("%d orders: median error %.3f, median wait %.2fs, longest %.2fs", len(wrong), wrong[len(wrong)/2], waits[len(waits)/2], waits[len(waits)-1])
	require.Less(t, wrong[len(wrong)/2], 0.3)
	require.Less(t, waits[len(waits)*95/100], 1.3*promised.Seconds(), "the promise holds")
}
