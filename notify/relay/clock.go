package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	clockPeriod = 30 * time.Second // between two looks at the shared clock
	clockRetry  = time.Second      // after one that failed
)

// sharedClock follows the clock that all relays share. Leases by the clocks of two machines would end early wherever
// one is fast.
type sharedClock struct {
	own    func() time.Time
	shared func(context.Context) (time.Time, error)
	ahead  atomic.Int64  // the shared clock minus our own, in ns
	known  chan struct{} // closed once ahead is known
	once   sync.Once     // closes it: a relay may be run again
}

func newSharedClock(own func() time.Time, shared func(context.Context) (time.Time, error)) *sharedClock {
	return &sharedClock{own: own, shared: shared, known: make(chan struct{})}
}

func (c *sharedClock) now() time.Time { return c.own().Add(time.Duration(c.ahead.Load())) }

// follow compares the clocks until ctx ends.
func (c *sharedClock) follow(ctx context.Context) {
	for ctx.Err() == nil {
		wait := clockRetry
		if c.compare(ctx) == nil {
			wait = clockPeriod
			c.once.Do(func() { close(c.known) })
		}
		idle(ctx, nil, wait)
	}
}

// compare asks for the shared time. The answer belongs to the middle of the question's time.
func (c *sharedClock) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	asked := c.own()
	there, err := c.shared(ctx)
	if err != nil {
		return err
	}
	c.ahead.Store(int64(there.Sub(asked.Add(c.own().Sub(asked) / 2))))
	return nil
}
