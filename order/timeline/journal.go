package timeline

import (
	"context"
	"log/slog"
	"time"

	"sluice/queue"
	"sluice/queue/worker"
)

// stepPanicked is how an attempt ended whose worker may not have been able to settle it.
const stepPanicked = "panicked"

// noteTimeout bounds writing a history: it is no part of the order.
const noteTimeout = time.Second

// Journal is a worker.Handler that notes, for an order's timeline, each attempt
// that did not simply succeed at once. What goes well costs nothing.
type Journal struct {
	next     worker.MultiSaleHandler
	lines    *queue.Lines
	instance string
	log      *slog.Logger
	now      func() time.Time
}

// NewJournal returns a journal around next; instance names this process.
func NewJournal(next worker.MultiSaleHandler, lines *queue.Lines, instance string, log *slog.Logger,
	now func() time.Time) *Journal {
	return &Journal{next: next, lines: lines, instance: instance, log: log, now: now}
}

// Handle implements worker.Handler.
func (j *Journal) Handle(ctx context.Context, b queue.Batch) (outcomes []queue.Outcome, err error) {
	from, panicked := j.now(), true
	defer func() {
		if panicked && !b.Shared {
			j.note(ctx, b, from, stepOf(b, stepPanicked))
		}
	}()
	outcomes, err = j.next.Handle(ctx, b)
	panicked = false
	j.note(ctx, b, from, stepsOf(b, outcomes))
	return outcomes, err
}

// HandleMultiSale implements worker.MultiSaleHandler. Either all of the batches succeed at once, or
// they are handled again line by line.
func (j *Journal) HandleMultiSale(ctx context.Context, batches []queue.Batch) ([][]queue.Outcome, error) {
	return j.next.HandleMultiSale(ctx, batches)
}

// Bury implements worker.Handler.
func (j *Journal) Bury(ctx context.Context, b queue.Batch, reason string) ([]queue.Outcome, error) {
	from := j.now()
	outcomes, err := j.next.Bury(ctx, b, reason)
	if err == nil {
		steps := stepOf(b, "given up")
		for id, s := range steps {
			s.Reason = reason
			steps[id] = s
		}
		j.note(ctx, b, from, steps)
	}
	return outcomes, err
}

// stepOf returns the same step for every ticket of a batch.
func stepOf(b queue.Batch, what string) map[string]queue.Step {
	steps := make(map[string]queue.Step, len(b.Tickets))
	for _, t := range b.Tickets {
		steps[t.ID] = queue.Step{What: what}
	}
	return steps
}

// stepsOf returns the steps of tickets whose attempt is worth noting. It leaves out what succeeded at the first
// attempt. It also leaves out tickets that go back unchanged, because a store is away or every ticket fails alike.
func stepsOf(b queue.Batch, outcomes []queue.Outcome) map[string]queue.Step {
	var steps map[string]queue.Step
	for _, o := range outcomes {
		what := ""
		switch o.Op {
		case queue.OpRetry:
			if !b.Shared {
				what = "retried"
			}
		case queue.OpFail:
			what = "failed"
		case queue.OpDead:
			what = "dead"
		case queue.OpConfirm:
			if b.Isolated || b.Solo {
				what = "fulfilled"
			}
		}
		if what == "" {
			continue
		}
		if steps == nil {
			steps = make(map[string]queue.Step)
		}
		steps[o.ID] = queue.Step{What: what, Reason: o.Reason}
	}
	return steps
}

// note writes steps into the line. Without them the order's timeline has a gap, and nothing else is wrong.
func (j *Journal) note(ctx context.Context, b queue.Batch, from time.Time, steps map[string]queue.Step) {
	if len(steps) == 0 {
		return
	}
	to := j.now()
	list := make([]queue.Step, 0, len(steps))
	for _, t := range b.Tickets {
		if s, ok := steps[t.ID]; ok {
			s.OrderID, s.At, s.Took, s.Attempt, s.Instance = t.ID, to, to.Sub(from), t.Attempts+1, j.instance
			list = append(list, s)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := j.lines.Of(b.Sale).NoteSteps(ctx, list); err != nil {
		j.log.Warn("steps not noted: timelines of these orders have a gap", "sale", b.Sale, "orders", len(list),
			"error", err)
	}
}
