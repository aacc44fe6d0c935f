package gateway

import (
	"context"
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
// a call.
type statusReader struct {
	finder *order.Finder
	gather gatherer[string, found]
}

type found struct {
	view order.View
	err  error
}

func newStatusReader(finder *order.Finder, now func() time.Time) *statusReader {
	s := &statusReader{finder: finder}
	// As many of one sale as of all: a call that has to ask the database delays its own sale only.
	s.gather = gatherer[string, found]{perLane: statusMost, perCall: 1, calls: statusCalls, bound: statusWaiting,
		timeout: statusTimeout, now: now, send: s.send}
	return s
}

// get returns an order of a sale that is in the book, for its owner only;
// order.ErrNotFound otherwise.
func (s *statusReader) get(ctx context.Context, sale, id, user string) (order.View, error) {
	f, err := s.gather.do(ctx, sale, id)
	if err != nil {
		return order.View{}, err
	}
	if f.err == nil && f.view.User != user {
		f.err = order.ErrNotFound
	}
	if f.err != nil {
		return order.View{}, f.err
	}
	return f.view, nil
}

func (s *statusReader) send(ctx context.Context, parcels []parcel[string, found]) {
	for i := range parcels {
		p := &parcels[i]
		p.answers, p.err = s.read(ctx, p.key, p.requests)
	}
}

func (s *statusReader) read(ctx context.Context, sale string, ids []string) ([]found, error) {
	views, missing := s.finder.Many(ctx, sale, ids)
	if missing == nil {
		missing = order.ErrNotFound
	}
	answers := make([]found, len(ids))
	for i, id := range ids {
		view, ok := views[id]
		if answers[i].view = view; !ok {
			answers[i].err = missing
		}
	}
	return answers, nil
}

func (s *statusReader) wait() { s.gather.wait() }
