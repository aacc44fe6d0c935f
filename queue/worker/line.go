package worker

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"sluice/internal/killpoint"
	"sluice/queue"
)

// workLine claims a batch of one line, runs it and settles it, as one of most workers.
func (c *Consumer) workLine(sale string, most int) {
	if c.barred(sale) {
		return
	}
	if c.tuning.holds(sale) {
		c.resume(inSale(sale))
		return
	}
	if !c.limiter.acquire(sale, most) {
		return
	}
	leave := sync.OnceFunc(func() {
		if c.limiter.release(sale) {
			c.runnable.add(sale)
		}
	})
	defer leave()
	// The work outlives the stop signal, never the lease. Its last quarter is for
	// settling: a handler that ran into its deadline still gives its batch back.
	held, release := context.WithTimeout(context.Background(), c.cfg.Lease)
	defer release()
	ctx, cancel := context.WithTimeout(held, c.cfg.Lease*3/4)
	defer cancel()
	line := c.lines.Of(sale)
	parts, err := c.claim(ctx, line)
	if err != nil {
		c.fault(PausedByRedis, err, sale)
		return
	}
	c.answered(sale)
	c.resume(func(p Pause) bool { return p.Sale == sale && (len(parts) == 0 || ofRedis(p)) })
	if len(parts) == 0 {
		c.restore(ofLine(sale))
		return
	}
	killpoint.Pass("claim.done")
	isolated := parts[0].Isolated
	if isolated {
		leave()
	}
	if isolated || parts[len(parts)-1].Left > 0 {
		c.runnable.addLarge(sale)
	} else if parts[0].Size() <= multiTickets {
		c.runnable.markSmall(sale)
	}
	c.finish(ctx, held, line, parts)
}

// claim takes a batch in parts. They are claimed and settled one by one, but run together. So Redis
// is never busy with one for long.
func (c *Consumer) claim(ctx context.Context, line *queue.Line) ([]queue.Batch, error) {
	most := c.sizer.bound(int(c.tuning.batch.Load()))
	first, err := c.claimFirst(ctx, line, c.sizer.firstPortion(most, c.cfg.MaxAttempts))
	if err != nil || first.Size() == 0 {
		return nil, err
	}
	parts, left := []queue.Batch{first}, c.sizer.remaining(most, first)
	for left > 0 {
		next, err := line.ClaimPortion(ctx, uuid.NewString(),
			queue.Portion{Most: min(left, part), Least: left, Share: 1}, c.cfg.Lease)
		if err != nil || next.Size() == 0 {
			return parts, nil // what is there is enough to go on with: the next claim tells what is wrong
		}
		if next.Epoch != first.Epoch {
			parts, first = nil, next // a rebuild has taken the parts before
		}
		parts, left = append(parts, next), left-next.Size()
	}
	return parts, nil
}

// claimFirst takes isolated tickets before others. While every ticket fails alike, every second claim takes others
// first: one may show that only the isolated ones fail.
func (c *Consumer) claimFirst(ctx context.Context, line *queue.Line, p queue.Portion) (queue.Batch, error) {
	if c.common.stands() && c.others.Add(1)%2 == 0 {
		plain := p
		plain.Isolated = 0
		if b, err := line.ClaimPortion(ctx, uuid.NewString(), plain, c.cfg.Lease); err != nil || b.Size() > 0 {
			return b, err
		}
	}
	return line.ClaimPortion(ctx, uuid.NewString(), p, c.cfg.Lease)
}
