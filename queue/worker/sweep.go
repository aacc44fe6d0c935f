package worker

import (
	"sluice/queue"
	"sluice/store/redis"

	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/internal/apart"
)

// sweepEvery bounds how long a ticket waits when the wake message for it was
// lost; see sweepMost.
const sweepEvery = 250 * time.Millisecond

const (
	promoteMost   = 5000 // retries of a line that become due in one sweep
	sweepChunk    = 100  // lines asked in one round trip
	sweepMost     = 125  // lines asked in one sweep: of a thousand, each is asked once in two seconds
	sweepServers  = 16   // servers of a cluster asked at a time
	sweepTime     = 2 * time.Second
	sweepPatience = 200 * time.Millisecond // then the next sweep begins, without the servers that are still being asked
)

// sweep finds work that nobody announced. That is tickets whose wake message was lost, delays that
// are over, leases that have run out.
func (c *Consumer) sweep(ctx context.Context) {
	rounds, next := apart.New(sweepServers, sweepPatience), newSweeps()
	defer rounds.Wait()
	for sleep(ctx, 0) == nil {
		if c.tuning.barred() == nil {
			c.resume(ofBar)
		}
		c.sweepServers(ctx, rounds, next)
		if sleep(ctx, sweepEvery) != nil {
			return
		}
	}
}

// sweeps remember where the next sweep of each server begins. One that a slow server could not take is not left out.
type sweeps struct {
	mu   sync.Mutex
	from map[string]int
}

func newSweeps() *sweeps { return &sweeps{from: map[string]int{}} }

// next takes the lines of a server that come next, up to most.
func (s *sweeps) next(server string, sales []string, most int) []string {
	if len(sales) <= most {
		return sales
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.from[server] % len(sales)
	s.from[server] = from + most
	return append(slices.Clone(sales[from:]), sales[:from]...)[:most]
}

// sweepServers asks lines of each server in a turn of its own: one that hangs holds up no other.
func (c *Consumer) sweepServers(ctx context.Context, rounds *apart.Rounds, next *sweeps) {
	sales := c.sales()
	on := c.lines.ByServer(ctx, sales)
	rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
		var away error
		share := (sweepMost*len(on[server]) + len(sales) - 1) / len(sales)
		for some := range slices.Chunk(next.next(server, on[server], share), sweepChunk) {
			if err := c.sweepLines(ctx, some); redis.Unavailable(err) && ctx.Err() == nil {
				away = err
			}
		}
		if begun, _ := c.swept.Note(ofServer(server), away); begun {
			c.log.Warn("lines not swept: what nobody announces waits in them", "server", server, "lines",
				len(on[server]), "error", away)
		}
		return nil
	}, func(server string, err error) {
		c.log.Error("a sweep panicked", "server", server, "error", err)
	})
}

// sweepLines asks some lines and does what there is to do in each; one that fails holds up no other.
func (c *Consumer) sweepLines(ctx context.Context, sales []string) error {
	ask, cancel := context.WithTimeout(ctx, sweepTime)
	found, failed := c.lines.Maintenance(ask, sales)
	cancel()
	for i, sale := range sales {
		if failed[i] == nil {
			c.answered(sale)
			c.resume(ofRedis)
			failed[i] = apart.Try(func() error { return c.sweepLine(ctx, sale, found[i]) })
		}
		if redis.Unavailable(failed[i]) || ctx.Err() != nil {
			continue
		}
		if begun, _ := c.swept.Note(ofLine(sale), failed[i]); begun {
			c.log.Warn("line not swept: what nobody announces waits in it", "sale", sale, "error", failed[i])
		}
	}
	return errors.Join(failed...)
}

func (c *Consumer) sweepLine(ctx context.Context, sale string, found queue.Maintenance) error {
	if found == 0 {
		// Nobody else may ever bring work to this process again: nothing is known to fail any more.
		if c.limiter.idle(sale) {
			c.restore(ofLine(sale))
			c.resume(inSale(sale))
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	return c.maintain(ctx, c.lines.Of(sale), found)
}

func (c *Consumer) maintain(ctx context.Context, line *queue.Line, found queue.Maintenance) error {
	if found&queue.TakeOver != 0 {
		batches, tickets, err := line.Reclaim(ctx)
		if err != nil {
			return err
		}
		if batches > 0 {
			c.metrics.recovered.Add(float64(batches))
			c.log.Warn("took over batches of a worker that did not settle them", "sale", line.Sale(), "batches",
				batches, "tickets", tickets)
		}
	}
	if found&queue.PromoteDue != 0 {
		if _, err := line.Promote(ctx, promoteMost); err != nil {
			return err
		}
	}
	if found != 0 {
		c.runnable.add(line.Sale())
	}
	return nil
}

// sleep waits for d, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
