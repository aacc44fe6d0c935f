package queue

import (
	"context"
	"time"
)

// listen wakes lines whose first ticket has just come in.
func (c *Consumer) listen(ctx context.Context) { c.lines.hear(ctx, wakeChannel, c.ready.add) }

// promoteMost is how many retries of a line become due in one sweep.
const promoteMost = 5000

// sweep finds work that nobody announced: tickets whose wake message was
// lost, delays that are over, leases that have run out.
func (c *Consumer) sweep(ctx context.Context) {
	for sleep(ctx, 0) == nil {
		for _, sale := range c.sales() {
			if ctx.Err() != nil {
				return
			}
			if err := c.sweepLine(ctx, c.lines.Of(sale)); err != nil && ctx.Err() == nil {
				c.log.Warn("sweep failed", "sale", sale, "error", err)
				break
			}
		}
		if sleep(ctx, sweepEvery) != nil {
			return
		}
	}
}

func (c *Consumer) sweepLine(ctx context.Context, line *Line) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	batches, tickets, err := line.Reclaim(ctx)
	if err != nil {
		return err
	}
	if batches > 0 {
		c.metrics.recovered.Add(float64(batches))
		c.log.Warn("took over batches of a worker that did not settle them", "sale", line.sale, "batches", batches, "tickets", tickets)
	}
	if _, err := line.Promote(ctx, promoteMost); err != nil {
		return err
	}
	view, err := line.View(ctx)
	if err != nil {
		return err
	}
	if view.Waiting+view.Suspects > 0 {
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
