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

// sentBatch is a batch with the sale as the cache knew it when it was sent.
type sentBatch struct {
	*batch
	sale inventory.Sale
}

// send carries batches to Redis and brings the answers back.
func (a *Admitter) send(ctx context.Context, batches []batch) {
	sent, asks := a.prepare(batches)
	if len(asks) == 0 {
		return
	}
	taken := 0
	defer func() { // also when it panics: somebody may be in the line whom the filter does not know
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

// takeOver fills a batch with its result.
func (a *Admitter) takeOver(b sentBatch, result *queue.AdmitResult) {
	if result.Err != nil {
		b.Err = result.Err
		a.refusals.drop(b.Key) // somebody may be in the line whom the filter does not know
		return
	}
	a.refusals.of(b.Key).learn(b.sale, result)
	b.Answers, b.Err = pointers(result.Admissions), nil
}

// pointers points at admissions: they are large, and travel through several hands.
func pointers(admissions []queue.Admission) []*queue.Admission {
	all := make([]*queue.Admission, len(admissions))
	for i := range admissions {
		all[i] = &admissions[i]
	}
	return all
}

// prepare turns batches into asks. It answers at once those of sales that the cache does not know.
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
		asks = append(asks, queue.Ask{Line: a.refusals.of(b.Key).seen.line, Epoch: entry.Sale.Epoch,
			Rate: entry.Rate(), Stopped: entry.Stopped(), Requests: b.Requests})
	}
	if size > 0 {
		a.metrics.size.Observe(float64(size))
	}
	return sent, asks
}

// earlierDeadline is a context with an earlier deadline. The client gives it to
// the socket; a timer beside that would only cost.
type earlierDeadline struct {
	context.Context
	at time.Time
}

func (d earlierDeadline) Deadline() (time.Time, bool) { return d.at, true }

// callTwice repeats what failed once. The first reply may have been lost after
// the work was done, and the same ids then get the same answers.
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
			// What the lost reply had admitted is new to its shopper; what is older is a replay all the same.
			one := &second.Admissions[j]
			one.Replayed = one.Replayed && one.Ticket.AdmittedAt.Before(sent.Add(-clockSlack))
		}
		results[again[i]] = second
	}
	return results
}
