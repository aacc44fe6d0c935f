package gateway

import (
	"context"
	"errors"
	"time"

	"sluice/order"
)

const (
	statusTimeout = 3 * time.Second
	statusMost    = 200
	statusCalls   = 4
	statusWaiting = 20_000
)

// statusReader reads the orders many shoppers ask for in few calls, one sale
// a call: first the line, and what the line does not know from the database.
// The two are gathered apart: whoever asks for an order that only the database
// may know keeps nobody else waiting for it.
type statusReader struct {
	finder *order.Finder
	line   gatherer[string, found]
	ledger gatherer[string, found]
}

type found struct {
	view order.View
	ok   bool
}

func newStatusReader(finder *order.Finder, now func() time.Time) *statusReader {
	s := &statusReader{finder: finder}
	reads := func(from func(context.Context, string, []string) (map[string]order.View, error)) gatherer[string, found] {
		return gatherer[string, found]{perLane: statusMost, perCall: 1, calls: statusCalls, bound: statusWaiting,
			timeout: statusTimeout, now: now, send: sendTo(from)}
	}
	s.line, s.ledger = reads(finder.InLine), reads(finder.InLedger)
	s.ledger.aloof = true
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

func sendTo(from func(context.Context, string, []string) (map[string]order.View, error)) func(context.Context, []parcel[string, found]) {
	return func(ctx context.Context, parcels []parcel[string, found]) {
		for i := range parcels {
			p := &parcels[i]
			var views map[string]order.View
			if views, p.err = from(ctx, p.key, p.requests); p.err != nil {
				continue
			}
			p.answers = make([]found, len(p.requests))
			for j, id := range p.requests {
				p.answers[j].view, p.answers[j].ok = views[id]
			}
		}
	}
}

func (s *statusReader) wait() {
	s.line.wait()
	s.ledger.wait()
}
