package gateway

import (
	"context"
	"time"

	"sluice/gateway/server"
	"sluice/internal/coalesce"
	"sluice/order"
	"sluice/queue"
)

// repeatedWait bounds the look into the database. Placing an order needs Redis
// only: when the database does not answer in time, the order goes on.
const repeatedWait = 300 * time.Millisecond

// repeatedReader finds orders that a line has forgotten: of those that ended it
// keeps the newest 10,000, the database keeps all. Requests that come together
// are asked for together.
type repeatedReader struct {
	finder *order.Finder
	ledger *coalesce.Coalescer[string, *queue.Ticket]
}

func newRepeatedReader(finder *order.Finder, panics *server.Panics, now func() time.Time) *repeatedReader {
	r := &repeatedReader{finder: finder}
	r.ledger = coalesce.New(coalesce.Config[string, *queue.Ticket]{PerKey: statusMost, PerCall: 1, Calls: statusCalls,
		Bound: statusWaiting, Timeout: repeatedWait, Detached: true, Now: now,
		OnPanic: panics.Noting("look for repeated orders"), Send: r.ask})
	return r
}

func (r *repeatedReader) ask(ctx context.Context, batches []coalesce.Batch[string, *queue.Ticket]) {
	for i := range batches {
		p := &batches[i]
		var placed map[string]queue.Ticket
		if placed, p.Err = r.finder.Placed(ctx, p.Key, p.Requests); p.Err != nil {
			continue
		}
		p.Answers = make([]*queue.Ticket, len(p.Requests))
		for j, id := range p.Requests {
			if t, ok := placed[id]; ok {
				p.Answers[j] = &t
			}
		}
	}
}

// repeated answers a request with an Idempotency-Key that was used before, when
// only the database remembers it: ok says that it was, and the error may be
// queue.ErrMismatch.
func (g *Gateway) repeated(ctx context.Context, sale string, r queue.Request) (a queue.Admission, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, repeatedWait)
	defer cancel()
	t, away := g.placed.ledger.Do(ctx, sale, r.ID)
	switch {
	case away != nil || t == nil:
		return a, false, nil
	case t.User != r.User, t.Fingerprint != r.Fingerprint && t.Fingerprint != "":
		return a, true, queue.ErrMismatch
	}
	return queue.Admission{Ticket: *t, Replayed: true}, true, nil
}
