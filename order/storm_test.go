package order_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/order"
	"sluice/order/deadletter"
	"sluice/order/restore"
	"sluice/queue"
)

// Everybody acts at once, while an audit looks on: shoppers, payers, workers that die or come late, operators and
// rebuilds. No look finds a difference, and what everybody was answered holds. STORM says for how long, on each
// database.
func TestStorm(t *testing.T) {
	t.Parallel()
	length := 4 * time.Second
	if text := os.Getenv("STORM"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			w := orders.NewUnpaid(t, d, testkit.Embedded(t).Addr(),
				orders.Terms{Stock: 60, Limit: 2, Deadline: time.Hour})
			w.Reconciler.RestoreBy(restore.NewRestorer(w.DB, orders.Channels(), w.Cache.Now, "storm").Restore)
			s := &storm{World: w, letters: w.DeadLetters(), answered: map[string]string{},
				units: map[string]queue.Ticket{}}
			s.run(length)
			s.settleDown()
			s.judge()
		})
	}
}

// storm is everything that happens at once, and what was answered.
type storm struct {
	*orders.World
	letters *deadletter.Admin

	mu       sync.Mutex
	orders   []string
	units    map[string]queue.Ticket // accepted orders
	answered map[string]string       // the last end that an owner, or a payment provider, was answered
	wrong    []string
	steps    int
	looks    int
}

// stormUsers are those who come at a time. With the orders others come, since these hold what they may.
const stormUsers = 400

// run lets everybody act until the time is over.
func (s *storm) run(length time.Duration) {
	ctx, cancel := context.WithTimeout(s.Ctx, length)
	defer cancel()
	var all sync.WaitGroup
	start := func(actors int, every time.Duration, act func(ctx context.Context)) {
		for range actors {
			all.Go(func() {
				tick := time.NewTicker(every)
				defer tick.Stop()
				for ctx.Err() == nil {
					act(context.WithoutCancel(ctx)) // what has begun is finished
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
		}
	}
	start(3, 2*time.Millisecond, s.shop)
	start(3, 2*time.Millisecond, s.drain)
	start(1, 10*time.Millisecond, s.sweep)
	start(2, 4*time.Millisecond, s.cancelOne)
	start(2, 4*time.Millisecond, s.payOne)
	start(1, 15*time.Millisecond, s.expireOne)
	start(2, 10*time.Millisecond, s.operate)
	start(1, 100*time.Millisecond, s.restock)
	start(1, 50*time.Millisecond, func(ctx context.Context) { _ = s.Reconciler.Reconcile(ctx) })
	start(1, 400*time.Millisecond, func(context.Context) { s.rebuild(ctx) })
	start(1, time.Millisecond, s.look)
	all.Wait()
}

// rebuild leaves the line open for four times as long as it was closed. A sale that has grown would do nothing else.
func (s *storm) rebuild(ctx context.Context) {
	began := time.Now()
	_ = s.Reconciler.Rebuild(context.WithoutCancel(ctx), orders.Sale)
	select {
	case <-time.After(4 * time.Since(began)):
	case <-ctx.Done():
	}
}

// any is an order that was accepted, "" before the first.
func (s *storm) any() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	if len(s.orders) == 0 {
		return ""
	}
	recent := s.orders[max(len(s.orders)-60, 0):]
	return recent[rand.IntN(len(recent))] // #nosec G404 -- a storm need not be unpredictable
}

func (s *storm) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.orders)
}

func (s *storm) note(id, end string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered[id] = end
}

// settleDown lets honest workers end what is left.
func (s *storm) settleDown() {
	s.T.Helper()
	deadline := time.Now().Add(orders.Soon)
	for s.View().InFlight() {
		require.False(s.T, time.Now().After(deadline), "the line does not come to rest: %+v", s.View())
		for _, b := range s.Redis.ZRange(s.Ctx, orders.Key("lease"), 0, -1).Val() {
			require.NoError(s.T, s.Redis.ZAddXX(s.Ctx, orders.Key("lease"), redis.Z{Score: 1, Member: b}).
				Err())
		}
		for _, id := range s.Redis.ZRange(s.Ctx, orders.Key("retry"), 0, -1).Val() {
			require.NoError(s.T, s.Redis.ZAddXX(s.Ctx, orders.Key("retry"), redis.Z{Score: 1, Member: id}).
				Err())
		}
		s.sweep(s.Ctx)
		s.CatchUp()
		s.Work()
	}
	s.CatchUp()
}

// judge holds what everybody was answered against the rows.
func (s *storm) judge() {
	s.T.Helper()
	require.Empty(s.T, s.wrong, "after %d steps and %d looks", s.steps, s.looks)
	s.Clean()
	require.Zero(s.T, s.View().Bounded, "the cap counts nobody in an empty line")
	rows := s.Rows()
	var wrong []string
	for _, id := range s.orders {
		row, ok := rows[id]
		switch last := s.answered[id]; {
		case !ok:
			wrong = append(wrong, id+" was accepted and has no row")
		case last == order.Cancelled && row.Status != order.Cancelled:
			wrong = append(wrong, fmt.Sprintf("%s was cancelled and is %s", id, row.Status))
		case last == order.Paid && row.Status != order.Paid && row.Refund == "":
			wrong = append(wrong, fmt.Sprintf("%s was paid and is %s", id, row.Status))
		case row.Status == order.Failed && row.Reason == order.ReasonSoldOut:
			wrong = append(wrong, id+" was accepted and sold out")
		}
	}
	slices.Sort(wrong)
	require.Empty(s.T, wrong[:min(len(wrong), 10)], "%d of %d", len(wrong), len(s.orders))
	s.T.Logf("%d orders accepted, %d looks of the audit, %v", len(s.orders), s.looks, s.Count())
}
