package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"sluice/internal/apart"
	"sluice/internal/killpoint"
	"sluice/queue"
)

// A multi-sale batch has the small batches of several lines. They are claimed in one round trip, run in one
// transaction, and settled in one round trip. So an order in one of a thousand sales costs little more than one in
// the only sale. Only what is plain goes along. Everything else goes back and is run line by line. So is a multi-sale
// batch that did not go through as a whole.
const (
	multiLines   = 64 // most lines in one
	multiTickets = 20 // most tickets of a line in one: a line with more is worth a batch of its own
	multiSlots   = 2  // multi-sale batches at a time: while one is run, what comes in gathers for the next
)

// MultiSaleHandler is a Handler that can run a multi-sale batch.
type MultiSaleHandler interface {
	Handler
	// HandleMultiSale answers every ticket of every batch, or fails. What it has left then, Handle makes good when it
	// is called for each of the batches.
	HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error)
}

// multiSize returns how many lines may go together when batches are bounded by queue.batch. Below 2 there are no
// multi-sale batches.
func (c *Consumer) multiSize() int {
	if c.multi == nil {
		return 0
	}
	return min(c.sizer.bound(int(c.tuning.batch.Load()))/multiTickets, multiLines)
}

// workMulti takes one turn of a pool worker with several lines.
func (c *Consumer) workMulti(sales []string) {
	if c.barred(sales...) {
		return
	}
	entered := make([]string, 0, len(sales))
	for _, sale := range sales {
		// A line is in one of them at a time. So when its row in the database is locked, one is held up and not all.
		if !c.tuning.holds(sale) && c.limiter.acquire(sale, 1) {
			entered = append(entered, sale)
		}
	}
	if len(entered) == 0 {
		return
	}
	defer func() {
		for _, sale := range entered {
			if c.limiter.release(sale) {
				c.runnable.add(sale)
			}
		}
	}()
	held, release := context.WithTimeout(context.Background(), c.cfg.Lease)
	defer release()
	ctx, cancel := context.WithTimeout(held, c.cfg.Lease*3/4)
	defer cancel()
	batches, failed := c.lines.ClaimEach(ctx, entered, uuid.NewString(),
		queue.Portion{Most: multiTickets, Least: multiTickets, Share: 1, Isolated: 1}, c.cfg.Lease)
	for i, sale := range entered {
		if failed[i] == nil {
			c.answered(sale)
		}
	}
	for i, sale := range entered { // by now it is known whether others were answered
		if failed[i] != nil {
			c.fault(PausedByRedis, failed[i], sale)
		}
	}
	if len(batches) > 0 {
		killpoint.Pass("claim.done")
	}
	switch batches = c.plain(held, batches); len(batches) {
	case 0:
	case 1:
		c.finish(ctx, held, c.lines.Of(batches[0].Sale), batches)
	default:
		c.finishMulti(ctx, held, batches)
	}
}

// plain gives back the batches that do not go with others, before the others are run. An isolated ticket may be what
// kills a worker.
func (c *Consumer) plain(held context.Context, batches []queue.Batch) []queue.Batch {
	kept := batches[:0]
	for _, b := range batches {
		if plain(b) {
			kept = append(kept, b)
			if b.Left > 0 {
				c.runnable.addLarge(b.Sale)
			}
			continue
		}
		c.giveBack(held, b)
	}
	return kept
}

// plain reports whether the tickets of a batch have neither failed nor ended.
func plain(b queue.Batch) bool {
	if b.Isolated || len(b.Poisoned) > 0 {
		return false
	}
	for i := range b.Tickets {
		if b.Tickets[i].State != queue.Queued {
			return false
		}
	}
	return true
}

// giveBack puts a batch back where it came from; a worker takes it by itself.
func (c *Consumer) giveBack(held context.Context, b queue.Batch) {
	outcomes := make([]queue.Outcome, 0, b.Size())
	for _, t := range b.Tickets {
		outcomes = append(outcomes, queue.Outcome{ID: t.ID, Op: queue.OpBack})
	}
	for _, p := range b.Poisoned {
		outcomes = append(outcomes, queue.Outcome{ID: p.ID, Op: queue.OpBack})
	}
	c.settle(held, c.lines.Of(b.Sale), b, outcomes)
	c.runnable.addLarge(b.Sale)
}

// finishMulti runs and settles batches together, or gives all of them back.
func (c *Consumer) finishMulti(ctx, held context.Context, batches []queue.Batch) {
	started := c.now()
	answers, err := c.handleMulti(ctx, batches)
	if err != nil {
		var crash *apart.PanicError
		if errors.As(err, &crash) {
			c.log.Error("a multi-sale batch panicked", "lines", len(batches), "panic", crash.Value, "stack",
				crash.Stack)
		}
		c.log.Info("batches did not go through together: each is run by itself", "lines", len(batches), "error", err)
		// When it took too long, smaller ones or none come next.
		c.sizer.learn(ticketsOf(batches), c.now().Sub(started), false)
		for _, b := range batches {
			c.giveBack(held, b)
		}
		return
	}
	for i, b := range batches {
		answers[i] = complete(b, answers[i])
	}
	c.settleMulti(held, batches, answers)
	for i, b := range batches {
		c.metrics.finished(b, answers[i], c.now())
		c.went(b.Sale)
	}
	tickets, took := ticketsOf(batches), c.now().Sub(started)
	c.metrics.ran(tickets, took)
	c.sizer.learn(tickets, took, true)
	c.common.succeeded()
	c.resume(anyPause)
}

// ticketsOf counts the tickets of batches.
func ticketsOf(batches []queue.Batch) (n int) {
	for _, b := range batches {
		n += len(b.Tickets)
	}
	return n
}

// handleMulti runs the handler. A panic is an error, and so is another number of answers.
func (c *Consumer) handleMulti(ctx context.Context, batches []queue.Batch) (answers [][]queue.Outcome, err error) {
	err = apart.Try(func() (err error) {
		answers, err = c.multi.HandleMultiSale(ctx, batches)
		return err
	})
	if err == nil && len(answers) != len(batches) {
		return nil, fmt.Errorf("%d batches got %d answers", len(batches), len(answers))
	}
	return answers, err
}

// settleMulti settles in one round trip. What did not settle is tried again by itself.
func (c *Consumer) settleMulti(held context.Context, batches []queue.Batch, answers [][]queue.Outcome) {
	killpoint.Pass("settle.before")
	failed := c.lines.SettleEach(held, batches, answers)
	killpoint.Pass("settle.after")
	for i, err := range failed {
		if err != nil {
			c.settle(held, c.lines.Of(batches[i].Sale), batches[i], answers[i])
		}
	}
}
