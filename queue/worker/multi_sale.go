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

// A party is the small batches of several lines: claimed in one round trip, run
// in one transaction, settled in one round trip. With it an order in one of a
// thousand sales costs little more than one in the only sale. Only what is
// plain goes along; everything else, and every party that did not go through as
// a whole, goes back and is run line by line.
const (
	multiLines   = 64 // most lines in one
	multiTickets = 20 // most tickets of a line in one: a line with more is worth a batch of its own
	multiSlots   = 2  // parties at a time: while one is run, what comes in gathers for the next
)

// MultiSaleHandler is a Handler that can run a party.
type MultiSaleHandler interface {
	Handler
	// HandleMultiSale answers every ticket of every batch, or fails: then it has left
	// nothing that Handle, called for each of the batches, would not make good.
	HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error)
}

// multiSize is how many lines may go together when batches are bounded by
// batch; below 2 there are no parties.
func (c *Consumer) multiSize() int {
	if c.multi == nil {
		return 0
	}
	return min(c.sizer.bound(int(c.tuning.batch.Load()))/multiTickets, multiLines)
}

// workMulti is one turn of a pool worker with several lines.
func (c *Consumer) workMulti(sales []string) {
	if c.barred(sales...) {
		return
	}
	entered := make([]string, 0, len(sales))
	for _, sale := range sales {
		// One party at a time for each line: when its row in the database is locked, one is held up and not all.
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
	switch party := c.plain(held, batches); len(party) {
	case 0:
	case 1:
		c.finish(ctx, held, c.lines.Of(party[0].Sale), party)
	default:
		c.finishMulti(ctx, held, party)
	}
}

// plain gives back the batches that do not go with others, before the others
// are run: an isolated ticket may be what kills a worker.
func (c *Consumer) plain(held context.Context, batches []queue.Batch) []queue.Batch {
	party := batches[:0]
	for _, b := range batches {
		if plain(b) {
			party = append(party, b)
			if b.Left > 0 {
				c.runnable.addLarge(b.Sale)
			}
			continue
		}
		c.giveBack(held, b)
	}
	return party
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
func (c *Consumer) finishMulti(ctx, held context.Context, party []queue.Batch) {
	started := c.now()
	answers, err := c.handleMulti(ctx, party)
	if err != nil {
		var crash *apart.PanicError
		if errors.As(err, &crash) {
			c.log.Error("a party panicked", "lines", len(party), "panic", crash.Value, "stack", crash.Stack)
		}
		c.log.Info("batches did not go through together: each is run by itself", "lines", len(party), "error", err)
		// When it took too long, smaller ones or none come next.
		c.sizer.learn(ticketsOf(party), c.now().Sub(started), false)
		for _, b := range party {
			c.giveBack(held, b)
		}
		return
	}
	for i, b := range party {
		answers[i] = complete(b, answers[i])
	}
	c.settleMulti(held, party, answers)
	for i, b := range party {
		c.metrics.finished(b, answers[i], c.now())
		c.went(b.Sale)
	}
	tickets, took := ticketsOf(party), c.now().Sub(started)
	c.metrics.ran(tickets, took)
	c.sizer.learn(tickets, took, true)
	c.common.succeeded()
	c.resume(anyPause)
}

func ticketsOf(party []queue.Batch) (n int) {
	for _, b := range party {
		n += len(b.Tickets)
	}
	return n
}

func (c *Consumer) handleMulti(ctx context.Context, party []queue.Batch) (answers [][]queue.Outcome, err error) {
	err = apart.Try(func() (err error) {
		answers, err = c.multi.HandleMultiSale(ctx, party)
		return err
	})
	if err == nil && len(answers) != len(party) {
		return nil, fmt.Errorf("%d batches got %d answers", len(party), len(answers))
	}
	return answers, err
}

// settleMulti settles in one round trip. What did not settle is tried again by itself.
func (c *Consumer) settleMulti(held context.Context, party []queue.Batch, answers [][]queue.Outcome) {
	killpoint.Pass("settle.before")
	failed := c.lines.SettleEach(held, party, answers)
	killpoint.Pass("settle.after")
	for i, err := range failed {
		if err != nil {
			c.settle(held, c.lines.Of(party[i].Sale), party[i], answers[i])
		}
	}
}
