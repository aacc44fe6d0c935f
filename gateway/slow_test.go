package gateway_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
	"sluice/queue"
)

// sellMany makes n sales that the gateway knows, and returns their ids.
func (s *world) sellMany(n int) []string {
	s.T.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("sale-", i)
		_, err := s.SaleStore.Create(s.T.Context(), inventory.NewSale{
			ID: ids[i], Title: "T", SKU: "S", Stock: 1_000_000, PriceCents: 1, Currency: "CNY",
			PerUserLimit: 1, Cap: 1_000_000, Open: true,
			StartsAt: time.Now().Add(-time.Minute), EndsAt: time.Now().Add(time.Hour),
		}, "test")
		require.NoError(s.T, err)
	}
	require.NoError(s.T, s.Reconciler.Reconcile(s.T.Context())) // however long a slow machine takes
	require.NoError(s.T, s.SaleCache.Refresh(s.T.Context()))
	return ids
}

// surge is orders that come at a steady pace, whatever becomes of them.
type surge struct {
	world    *world
	all      sync.WaitGroup
	mu       sync.Mutex
	came     int
	admitted []time.Duration // how long each waited
	failed   []error
}

// run lets so many orders come a second, one sale after the other, and returns how many were admitted by its end.
func (u *surge) run(sales []string, perSecond float64, lasts time.Duration) (admitted int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < lasts; {
		<-tick.C
		for due := int(perSecond * time.Since(began).Seconds()); u.came < due; u.came++ {
			sale := sales[u.came%len(sales)]
			u.all.Go(func() { u.order(sale) })
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.admitted)
}

func (u *surge) order(sale string) {
	id, began := stack.NewUUID(), time.Now()
	_, err := u.world.Gateway.Admitter().Admit(context.Background(), sale,
		queue.Request{ID: id, User: id, Units: 1, Fingerprint: "f"})
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.failed = append(u.failed, err)
		return
	}
	u.admitted = append(u.admitted, time.Since(began))
}

func (u *surge) firstError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d: %w", len(u.failed), u.came, u.failed[0])
}

// Redis is 125 ms away each way, so a call takes 250 ms, and four of up to 1,000 orders may be in
// flight: 16,000 a second, far more than the 400 that come. So the arrivals bound what passes. An
// order waits for the call of its sale that is in flight and then for its own, half a second of the
// four in which they come: seven in eight are admitted by the end, and three in four must be.
func TestASlowRedisIsSlowNotDead(t *testing.T) { // it measures: nothing else may run beside it
	for _, sales := range []int{30, 100} {
		t.Run(fmt.Sprint(sales, " sales"), func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			proxy := testkit.NewProxy(t, server.Addr())
			s := newWorld(t, stack.Quiet, func(c *stack.Setup) { c.Redis, c.Direct = proxy.Addr(), server.Addr() })
			ids := s.sellMany(sales)
			quick := &surge{world: s}
			quick.run(ids, 400, time.Second)
			quick.all.Wait()
			require.NoError(t, quick.firstError())

			proxy.Delay(125 * time.Millisecond)
			const perSecond, seconds = 400, 4
			slow := &surge{world: s}
			admitted := slow.run(ids, perSecond, seconds*time.Second)
			slow.all.Wait()
			require.NoError(t, slow.firstError())
			require.GreaterOrEqual(t, admitted, perSecond*seconds*3/4)
			slices.Sort(slow.admitted)
			require.Less(t, slow.admitted[len(slow.admitted)/2], time.Second)
		})
	}
}
