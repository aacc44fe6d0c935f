package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/internal/killpoint"
	"sluice/queue"
)

// settle ends a batch. Where that fails it is tried again, without the worker: a server that hangs keeps none from the
// other lines.
func (c *Consumer) settle(held context.Context, line *queue.Line, b queue.Batch, outcomes []queue.Outcome) {
	err := c.settleOnce(held, line, b, outcomes)
	if err == nil {
		return
	}
	deadline, _ := held.Deadline()
	again := func() {
		ctx, cancel := context.WithDeadline(context.WithoutCancel(held), deadline)
		defer cancel()
		c.settleAgain(ctx, line, b, outcomes, err)
	}
	if !c.late.begin(again) {
		again()
	}
}

// settleAgain tries until the lease has run out. Repeating is safe: once it was
// done, the lease is gone and the repeat is fenced.
func (c *Consumer) settleAgain(
	ctx context.Context, line *queue.Line, b queue.Batch, outcomes []queue.Outcome, err error,
) {
	for wait := 20 * time.Millisecond; err != nil; wait *= 2 {
		if sleep(ctx, wait) != nil {
			c.log.Error("batch not settled: it runs again when its lease ends", "sale", b.Sale, "batch", b.ID, "error",
				err)
			return
		}
		err = c.settleOnce(ctx, line, b, outcomes)
	}
}

// settleOnce returns nil also when the batch was taken over.
func (c *Consumer) settleOnce(ctx context.Context, line *queue.Line, b queue.Batch, outcomes []queue.Outcome) error {
	killpoint.Pass("settle.before")
	err := line.Settle(ctx, b, outcomes)
	killpoint.Pass("settle.after")
	if errors.Is(err, queue.ErrFenced) {
		c.log.Warn("batch was taken over before it settled", "sale", b.Sale, "batch", b.ID, "tickets", len(b.Tickets))
		return nil
	}
	return err
}

// mostLate bounds the batches that are settled again without a worker.
const mostLate = 256

// lateSettles own the goroutines that settle batches again.
type lateSettles struct {
	places chan struct{}
	all    *sync.WaitGroup
}

func newLateSettles() lateSettles {
	return lateSettles{places: make(chan struct{}, mostLate), all: &sync.WaitGroup{}}
}

// begin runs again on its own; false when too many do.
func (l lateSettles) begin(again func()) bool {
	select {
	case l.places <- struct{}{}:
	default:
		return false
	}
	l.all.Go(func() {
		defer func() { <-l.places }()
		again()
	})
	return true
}

func (l lateSettles) wait() { l.all.Wait() }
