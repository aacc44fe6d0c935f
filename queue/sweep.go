package queue

import (
	"context"
	"slices"
	"time"
)

// listen wakes lines whose first ticket has just come in.
func (c *Consumer) listen(ctx context.Context) { c.lines.hear(ctx, c.lines.wakeChannel, c.ready.add) }

const (
	promoteMost = 5000 // retries of a line that become due in one sweep
	sweepChunk  = 100  // lines asked in one round trip
	sweepMost   = 125  // lines asked in one sweep: of a thousand, each is asked once in two seconds
)

// sweep finds work that nobody announced: tickets whose wake message was
// lost, delays that are over, leases that have run out.
func (c *Consumer) sweep(ctx context.Context) {
	for from := 0; sleep(ctx, 0) == nil; {
		if c.tuning.barred() == nil {
			c.resume(ofBar)
		}
		var sales []string
		sales, from = c.toSweep(from)
		for some := range slices.Chunk(sales, sweepChunk) {
			if ctx.Err() != nil {
				return
			}
			if err := c.sweepLines(ctx, some); err != nil && ctx.Err() == nil {
				c.log.Warn("sweep failed", "error", err)
			}
		}
		if sleep(ctx, sweepEvery) != nil {
			return
		}
	}
}

// toSweep is whose turn it is, and where the next sweep begins.
func (c *Consumer) toSweep(from int) (sales []string, next int) {
	sales = c.sales()
	if len(sales) <= sweepMost {
		return sales, 0
	}
	from %= len(sales)
	sales = append(slices.Clone(sales[from:]), sales[:from]...)
	return sales[:sweepMost], from + sweepMost
}

// sweepLines asks some lines and does what there is to do in each; one that fails holds up no other.
func (c *Consumer) sweepLines(ctx context.Context, sales []string) error {
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	found, failed := c.lines.chores(ask, sales)
	cancel()
	if failed == nil {
		c.resume(ofRedis)
	}
	for i, sale := range sales {
		if found[i] == 0 {
			// Nobody else may ever bring work to this process again: nothing is known to fail any more.
			if failed == nil && c.turns.idle(sale) {
				c.resume(inSale(sale))
			}
			continue
		}
		own, cancel := context.WithTimeout(ctx, 2*time.Second)
		if err := c.doChores(own, c.lines.Of(sale), found[i]); err != nil {
			failed = err
		}
		cancel()
	}
	return failed
}

func (c *Consumer) doChores(ctx context.Context, line *Line, found chores) error {
	if found&takeOver != 0 {
		batches, tickets, err := line.Reclaim(ctx)
		if err != nil {
			return err
		}
		if batches > 0 {
			c.metrics.recovered.Add(float64(batches))
			c.log.Warn("took over batches of a worker that did not settle them", "sale", line.sale, "batches", batches, "tickets", tickets)
		}
	}
	if found&promoteDue != 0 {
		if _, err := line.Promote(ctx, promoteMost); err != nil {
			return err
		}
	}
	if found != 0 {
		c.ready.add(line.sale)
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
