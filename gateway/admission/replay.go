package admission

import (
	"context"
	"time"

	"sluice/gateway/server"
	"sluice/internal/coalesce"
	"sluice/order/lookup"
	"sluice/queue"
)

// replayWait bounds the search in the database. Placing an order needs only Redis, so without an answer the order goes
// on.
const replayWait = 300 * time.Millisecond

const (
	replayMost    = 200    // requests of one sale in one call
	replayCalls   = 4      // calls in flight
	replayWaiting = 20_000 // requests of one sale that may wait in memory
)

// replayReader finds orders that a line has forgotten. A line remembers the newest 10,000 ended orders, the database
// all. Requests that come together share a query.
type replayReader struct {
	finder    *lookup.Finder
	coalescer *coalesce.Coalescer[string, *queue.Ticket]
}

func newReplayReader(finder *lookup.Finder, panics *server.Panics, now func() time.Time) *replayReader {
	r := &replayReader{finder: finder}
	r.coalescer = coalesce.New(coalesce.Config[string, *queue.Ticket]{PerKey: replayMost, PerCall: 1,
		Calls: replayCalls, Bound: replayWaiting, Timeout: replayWait, Detached: true, Now: now,
		OnPanic: panics.NoteFor("look for repeated orders"), Send: r.ask})
	return r
}

// ask fills batches with the orders that the database has for their requests.
func (r *replayReader) ask(ctx context.Context, batches []coalesce.Batch[string, *queue.Ticket]) {
	for i := range batches {
		b := &batches[i]
		var placed map[string]queue.Ticket
		if placed, b.Err = r.finder.Placed(ctx, b.Key, b.Requests); b.Err != nil {
			continue
		}
		b.Answers = make([]*queue.Ticket, len(b.Requests))
		for j, id := range b.Requests {
			if t, ok := placed[id]; ok {
				b.Answers[j] = &t
			}
		}
	}
}

// find looks for an earlier order with the request's Idempotency-Key in the database. It reports whether there is one;
// the error may be queue.ErrMismatch.
func (r *replayReader) find(ctx context.Context, sale string, asked queue.Request) (
	a queue.Admission, ok bool, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, replayWait)
	defer cancel()
	t, away := r.coalescer.Do(ctx, sale, asked.ID)
	switch {
	case away != nil || t == nil:
		return a, false, nil
	case t.User != asked.User, t.Fingerprint != asked.Fingerprint && t.Fingerprint != "":
		return a, true, queue.ErrMismatch
	}
	return queue.Admission{Ticket: *t, Replayed: true}, true, nil
}
