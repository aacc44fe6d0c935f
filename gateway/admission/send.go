package admission

import (
	"context"
	"errors"
	"time"

	"sluice/internal/coalesce"
	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/queue"
)

type batch = coalesce.Batch[queue.Request, *queue.Admission]

// sentBatch is a batch with the cache's state of the sale when it was sent.
type sentBatch struct {
	*batch
	sale inventory.Sale
}

// send sends batches to Redis and fills in their answers.
func (a *Admitter) send(ctx context.Context, batches []batch) {
	sent, asks := a.prepare(batches)
	if len(asks) == 0 {
		return
	}
	taken := 0
	defer func() { // also after a panic: a new user may be in the line whom the filter does not have
		for _, b := range sent[taken:] {
			a.refusals.drop(b.Key)
		}
	}()
	killpoint.Pass("admit.before")
	defer killpoint.Pass("admit.after")
	results := a.callTwice(ctx, asks)
	for i, b := range sent {
		a.takeOver(b, &results[i])
		taken++
	}
}

// takeOver copies a result into its batch and the refusal cache.
func (a *Admitter) takeOver(b sentBatch, result *queue.AdmitResult) {
	if result.Err != nil {
		b.Err = result.Err
		a.refusals.drop(b.Key) // a new user may be in the line whom the filter does not have
		return
	}
	a.refusals.get(b.Key).learn(b.sale, result)
	b.Answers, b.Err = pointers(result.Admissions), nil
}

// pointers returns pointers to admissions, because they are large and passed on several times.
func pointers(admissions []queue.Admission) []*queue.Admission {
	all := make([]*queue.Admission, len(admissions))
	for i := range admissions {
		all[i] = &admissions[i]
	}
	return all
}

// prepare turns batches into asks. It refuses batches of sales that the cache does not know.
func (a *Admitter) prepare(batches []batch) ([]sentBatch, []queue.Ask) {
	sent, asks := make([]sentBatch, 0, len(batches)), make([]queue.Ask, 0, len(batches))
	size := 0
	for i := range batches {
		b := &batches[i]
		entry, ok := a.sales.Get(b.Key)
		if !ok {
			b.Err = queue.ErrNotReady
			continue
		}
		entry.Touch(a.now())
		size += len(b.Requests)
		sent = append(sent, sentBatch{b, entry.Sale})
		asks = append(asks, queue.Ask{Line: a.refusals.get(b.Key).seen.line, Epoch: entry.Sale.Epoch,
			Rate: entry.Rate(), Stopped: entry.Stopped(), Requests: b.Requests})
	}
	if size > 0 {
		a.metrics.size.Observe(float64(size))
	}
	return sent, asks
}

// earlierDeadline is a context with an earlier deadline, without a timer. The client applies the deadline to the
// socket.
type earlierDeadline struct {
	context.Context
	at time.Time
}

func (d earlierDeadline) Deadline() (time.Time, bool) { return d.at, true }

// callTwice repeats failed asks once. The first reply may have been lost after the work; the same ids then get the same
// answers.
func (a *Admitter) callTwice(ctx context.Context, asks []queue.Ask) []queue.AdmitResult {
	sent := a.sales.Now()
	results := a.lines.Admit(earlierDeadline{ctx, time.Now().Add(Timeout / 2)}, asks)
	var again []int
	for i := range results {
		if err := results[i].Err; err != nil && !errors.Is(err, queue.ErrNotReady) {
			again = append(again, i)
		}
	}
	if len(again) == 0 || ctx.Err() != nil {
		return results
	}
	repeated := make([]queue.Ask, len(again))
	for i, n := range again {
		repeated[i] = asks[n]
	}
	for i, second := range a.lines.Admit(ctx, repeated) {
		for j := range second.Admissions {
			// What the lost call admitted is new to its shopper. Only older orders are replays.
			one := &second.Admissions[j]
			one.Replayed = one.Replayed && one.Ticket.AdmittedAt.Before(sent.Add(-clockSlack))
		}
		results[again[i]] = second
	}
	return results
}
