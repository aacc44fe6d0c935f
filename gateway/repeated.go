package gateway

import (
	"context"
	"time"

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
	ledger gatherer[string, *queue.Ticket]
}

func newRepeatedReader(finder *order.Finder, panics *Panics, now func() time.Time) *repeatedReader {
	r := &repeatedReader{}
	r.ledger = gatherer[string, *queue.Ticket]{name: "look for repeated orders", perLane: statusMost, perCall: 1, calls: statusCalls, bound: statusWaiting,
		timeout: repeatedWait, aloof: true, now: now, panics: panics, send: func(ctx context.Context, parcels []parcel[string, *queue.Ticket]) {
			for i := range parcels {
				p := &parcels[i]
				var placed map[string]queue.Ticket
				if placed, p.err = finder.Placed(ctx, p.key, p.requests); p.err != nil {
					continue
				}
				p.answers = make([]*queue.Ticket, len(p.requests))
				for j, id := range p.requests {
					if t, ok := placed[id]; ok {
						p.answers[j] = &t
					}
				}
			}
		}}
	return r
}

// repeated answers a request with an Idempotency-Key that was used before, when
// only the database remembers it: ok says that it was, and the error may be
// queue.ErrMismatch.
func (g *Gateway) repeated(ctx context.Context, sale string, r queue.Request) (a queue.Admission, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, repeatedWait)
	defer cancel()
	t, away := g.placed.ledger.do(ctx, sale, r.ID)
	switch {
	case away != nil || t == nil:
		return a, false, nil
	case t.User != r.User, t.Fingerprint != r.Fingerprint && t.Fingerprint != "":
		return a, true, queue.ErrMismatch
	}
	return queue.Admission{Ticket: *t, Replayed: true}, true, nil
}
