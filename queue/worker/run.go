package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/internal/apart"
	"sluice/queue"
)

// finish runs a claimed batch and settles its parts.
func (c *Consumer) finish(ctx, held context.Context, line *queue.Line, parts []queue.Batch) {
	started := c.now()
	whole := join(parts)
	answers, fault := c.run(ctx, whole)
	unreadable, bad := c.buryUnreadable(ctx, line, whole)
	fault = cmp.Or(fault, bad)
	// The newest part first: what goes back stands before what went back earlier.
	for _, p := range slices.Backward(parts) {
		from := len(answers) - len(p.Tickets)
		outcomes := slices.Clone(answers[from:])
		for _, poison := range p.Poisoned {
			outcomes = append(outcomes, unreadable[poison.ID])
		}
		answers = answers[:from]
		c.settle(held, line, p, outcomes)
		c.metrics.finished(p, outcomes, c.now())
	}
	took := c.now().Sub(started)
	c.metrics.ran(len(whole.Tickets), took)
	c.sizer.learn(whole.Size(), took, fault == nil)
	if fault != nil {
		c.fault(reasonOf(fault), fault, whole.Sale)
		return
	}
	if len(whole.Tickets) > 0 {
		c.went(whole.Sale)
		c.resume(anyPause)
	}
}

// reasonOf names what a batch failed for.
func reasonOf(fault error) string {
	switch {
	case errors.Is(fault, ErrCommon):
		return PausedByAll
	case errors.Is(fault, errLine):
		return PausedByRedis
	}
	return PausedByDatabase
}

// join makes the parts of a batch one, under the name of the first.
func join(parts []queue.Batch) queue.Batch {
	if len(parts) == 1 {
		return parts[0]
	}
	whole, size := parts[0], 0
	for _, p := range parts {
		size += len(p.Tickets)
	}
	whole.Tickets, whole.Poisoned = make([]queue.Ticket, 0, size), nil
	for _, p := range parts {
		whole.Tickets = append(whole.Tickets, p.Tickets...)
		whole.Poisoned = append(whole.Poisoned, p.Poisoned...)
	}
	return whole
}

// run answers every ticket of the batch, in their order. A fault is an error
// that no ticket has caused.
func (c *Consumer) run(ctx context.Context, b queue.Batch) (outcomes []queue.Outcome, fault error) {
	if len(b.Tickets) == 0 {
		return nil, nil
	}
	b.Shared = c.common.stands()
	answers, err := c.handle(ctx, b)
	var crash *apart.PanicError
	switch {
	case errors.As(err, &crash):
		c.log.Error("a batch panicked", "sale", b.Sale, "tickets", len(b.Tickets), "panic", crash.Value, "stack",
			crash.Stack)
		answers = c.retryAll(b)
	case err != nil:
		return complete(b, nil), err
	}
	answers = complete(b, answers)
	if fault = c.common.learn(b, answers); fault != nil {
		uncounted(b, answers)
	}
	return answers, fault
}

// handle gives a batch to the handler, or to its Bury when its one ticket has failed too often.
func (c *Consumer) handle(ctx context.Context, b queue.Batch) (outcomes []queue.Outcome, err error) {
	last := b.Solo && b.Tickets[0].Attempts >= c.cfg.MaxAttempts
	if last && !c.common.possible() && !c.common.pardons() {
		return c.bury(ctx, b, gaveUp(b))
	}
	outcomes, err = c.attempt(ctx, b)
	if last && !c.common.possible() && failedAlone(outcomes, err) {
		return c.bury(ctx, b, gaveUp(b))
	}
	for i := range outcomes {
		if outcomes[i].Op == queue.OpRetry && outcomes[i].Delay == 0 {
			outcomes[i].Delay = c.delay(b)
		}
	}
	return outcomes, err
}

// failedAlone reports whether an attempt of one ticket counts against it.
func failedAlone(outcomes []queue.Outcome, err error) bool {
	var crash *apart.PanicError
	return errors.As(err, &crash) || err == nil && len(outcomes) == 1 && outcomes[0].Op == queue.OpRetry
}

// attempt calls the handler and makes a panic an error. The pool would only log
// it, and the batch would be lost until its lease ends.
func (c *Consumer) attempt(ctx context.Context, b queue.Batch) (outcomes []queue.Outcome, err error) {
	err = apart.Try(func() (err error) {
		outcomes, err = c.handler.Handle(ctx, b)
		return err
	})
	return outcomes, err
}

// gaveUp says why a ticket is buried.
func gaveUp(b queue.Batch) string {
	return fmt.Sprintf("gave up after %d attempts", b.Tickets[0].Attempts)
}

// bury lets the handler record tickets as failed. A panic is an error.
func (c *Consumer) bury(ctx context.Context, b queue.Batch, reason string) (outcomes []queue.Outcome, err error) {
	err = apart.Try(func() (err error) {
		outcomes, err = c.handler.Bury(ctx, b, reason)
		return err
	})
	return outcomes, err
}

// retryAll sends each ticket of a crashed batch to run alone. A ticket that had company goes at
// once, since at most one of them is to blame. Others go later.
func (c *Consumer) retryAll(b queue.Batch) []queue.Outcome {
	outcomes := make([]queue.Outcome, len(b.Tickets))
	for i, t := range b.Tickets {
		outcomes[i] = queue.Outcome{ID: t.ID, Op: queue.OpRetry, Delay: c.delay(b)}
		if b.Solo {
			outcomes[i].Code = panicCode
		}
	}
	return outcomes
}

// delay returns how long a ticket waits for its next attempt.
func (c *Consumer) delay(b queue.Batch) time.Duration {
	if !b.Solo {
		return 0
	}
	return min(c.cfg.Backoff<<min(b.Tickets[0].Attempts, 16), time.Minute)
}

// complete keeps the first proper answer to each ticket of the batch. A ticket
// without one goes back unchanged.
func complete(b queue.Batch, answers []queue.Outcome) []queue.Outcome {
	if inOrder(b.Tickets, answers) {
		return answers
	}
	answered := make(map[string]queue.Outcome, len(b.Tickets))
	for _, o := range answers {
		if _, twice := answered[o.ID]; !twice && o.Op.Valid() {
			answered[o.ID] = o
		}
	}
	outcomes := make([]queue.Outcome, len(b.Tickets))
	for i, t := range b.Tickets {
		o, ok := answered[t.ID]
		if !ok {
			o = queue.Outcome{ID: t.ID, Op: queue.OpBack}
		}
		outcomes[i] = o
	}
	return outcomes
}

// inOrder reports whether answers is one proper answer to each ticket, as most often.
func inOrder(tickets []queue.Ticket, answers []queue.Outcome) bool {
	if len(answers) != len(tickets) {
		return false
	}
	for i := range answers {
		if answers[i].ID != tickets[i].ID || !answers[i].Op.Valid() {
			return false
		}
	}
	return true
}
