package gateway

import (
	"context"
	"errors"
	"time"

	"sluice/order"
	"sluice/queue"
)

const (
	statusTimeout = 3 * time.Second
	statusMost    = 200
	statusCalls   = 4
	statusWaiting = 20_000
)

// statusReader reads the orders many shoppers ask for in few calls: first the
// lines, several sales a call, and what those do not know from the database, one
// sale a call. The two are gathered apart: whoever asks for an order that only
// the database may know keeps nobody else waiting for it.
type statusReader struct {
	finder *order.Finder
	line   gatherer[string, found]
	ledger gatherer[string, found]
}

type found struct {
	view order.View
	ok   bool
}

func newStatusReader(finder *order.Finder, panics *Panics, now func() time.Time) *statusReader {
	s := &statusReader{finder: finder}
	s.line = gatherer[string, found]{name: "look at lines", perLane: statusMost, perCall: statusMost, calls: statusCalls, bound: statusWaiting,
		timeout: statusTimeout, now: now, panics: panics, send: s.askLines}
	s.ledger = gatherer[string, found]{name: "look at the ledger", perLane: statusMost, perCall: 1, calls: statusCalls, bound: statusWaiting,
		timeout: statusTimeout, now: now, panics: panics, send: s.askLedger, aloof: true}
	return s
}

// get returns an order of a sale that is in the book, for its owner only;
// order.ErrNotFound otherwise.
func (s *statusReader) get(ctx context.Context, sale, id, user string) (order.View, error) {
	f, away := s.line.do(ctx, sale, id)
	if away != nil || !f.ok {
		var err error
		if f, err = s.ledger.do(ctx, sale, id); err != nil {
			return order.View{}, errors.Join(away, err)
		}
	}
	switch {
	case f.ok && f.view.User == user:
		return f.view, nil
	case away != nil: // it may be in line
		return order.View{}, away
	}
	return order.View{}, order.ErrNotFound
}

func (s *statusReader) askLines(ctx context.Context, parcels []parcel[string, found]) {
	asked := make([]queue.Lookup, len(parcels))
	for i, p := range parcels {
		asked[i] = queue.Lookup{Sale: p.key, IDs: p.requests}
	}
	for i, views := range s.finder.InLine(ctx, asked) {
		fillFound(&parcels[i], views.ByID, views.Err)
	}
}

func (s *statusReader) askLedger(ctx context.Context, parcels []parcel[string, found]) {
	for i := range parcels {
		p := &parcels[i]
		views, err := s.finder.InLedger(ctx, p.key, p.requests)
		fillFound(p, views, err)
	}
}

// fillFound fills a parcel with the orders that were found.
func fillFound(p *parcel[string, found], views map[string]order.View, err error) {
	if p.err = err; err != nil {
		return
	}
	p.answers = make([]found, len(p.requests))
	for i, id := range p.requests {
		p.answers[i].view, p.answers[i].ok = views[id]
	}
}

// forget lets go of the lanes of sales that nobody asks for any more.
func (s *statusReader) forget() {
	s.line.forget()
	s.ledger.forget()
}

func (s *statusReader) wait() {
	s.line.wait()
	s.ledger.wait()
}
