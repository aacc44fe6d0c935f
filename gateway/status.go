package gateway

import (
	"context"
	"sync"
	"time"

	"sluice/order"
)

const (
	statusTimeout = 3 * time.Second
	statusMost    = 200
	statusCalls   = 2
	statusWaiting = 20_000
)

// statusReader reads the orders many shoppers ask for in few calls.
type statusReader struct {
	finder *order.Finder
	sales  sync.Map // sale id → *gatherer[string, found]; bounded by the sales of the book
}

type found struct {
	view order.View
	err  error
}

func newStatusReader(finder *order.Finder) *statusReader { return &statusReader{finder: finder} }

// get returns an order of a sale that is in the book, for its owner only;
// order.ErrNotFound otherwise.
func (s *statusReader) get(ctx context.Context, sale, id, user string) (order.View, error) {
	g, ok := s.sales.Load(sale)
	if !ok {
		g, _ = s.sales.LoadOrStore(sale, &gatherer[string, found]{
			most: statusMost, calls: statusCalls, bound: statusWaiting, timeout: statusTimeout,
			send: func(ctx context.Context, ids []string) ([]found, error) { return s.read(ctx, sale, ids) },
		})
	}
	f, err := g.(*gatherer[string, found]).do(ctx, id)
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

func (s *statusReader) wait() {
	s.sales.Range(func(_, g any) bool {
		g.(*gatherer[string, found]).wait()
		return true
	})
}
