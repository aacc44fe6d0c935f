package gateway

import (
	"context"
	"errors"
	"time"

	"sluice/gateway/server"
	"sluice/internal/coalesce"
	"sluice/order"
	"sluice/order/lookup"
	"sluice/queue"
)

const (
	statusTimeout = 3 * time.Second
	statusMost    = 200
	statusCalls   = 4
	statusWaiting = 20_000
)

// statusReader reads the orders that many shoppers request in few calls. It reads lines first, several sales a call.
// Orders that these do not have it reads from the database, one sale a call. The two have separate queues, so that
// slow reads of the database delay no others.
type statusReader struct {
	finder *lookup.Finder
	line   *coalesce.Coalescer[string, found]
	ledger *coalesce.Coalescer[string, found]
}

type found struct {
	view order.View
	ok   bool
}

func newStatusReader(finder *lookup.Finder, panics *server.Panics, now func() time.Time) *statusReader {
	s := &statusReader{finder: finder}
	joined := coalesce.Config[string, found]{PerKey: statusMost, PerCall: statusMost, Calls: statusCalls,
		Bound: statusWaiting, Timeout: statusTimeout, Now: now}
	line, ledger := joined, joined
	line.Send, line.OnPanic = s.readLines, panics.NoteFor("look at lines")
	ledger.Send, ledger.OnPanic = s.readLedger, panics.NoteFor("look at the ledger")
	ledger.PerCall, ledger.Detached = 1, true
	s.line, s.ledger = coalesce.New(line), coalesce.New(ledger)
	return s
}

// get returns an order of a sale in the sale cache, for its owner only, or order.ErrNotFound.
func (s *statusReader) get(ctx context.Context, sale, id, user string) (order.View, error) {
	f, away := s.line.Do(ctx, sale, id)
	if away != nil || !f.ok {
		var err error
		if f, err = s.ledger.Do(ctx, sale, id); err != nil {
			return order.View{}, errors.Join(away, err)
		}
	}
	switch {
	case f.ok && f.view.User == user:
		return f.view, nil
	case away != nil: // the order may be in the line
		return order.View{}, away
	}
	return order.View{}, order.ErrNotFound
}

func (s *statusReader) readLines(ctx context.Context, batches []coalesce.Batch[string, found]) {
	asked := make([]queue.Lookup, len(batches))
	for i, p := range batches {
		asked[i] = queue.Lookup{Sale: p.Key, IDs: p.Requests}
	}
	for i, views := range s.finder.InLine(ctx, asked) {
		fillFound(&batches[i], views.ByID, views.Err)
	}
}

func (s *statusReader) readLedger(ctx context.Context, batches []coalesce.Batch[string, found]) {
	for i := range batches {
		p := &batches[i]
		views, err := s.finder.InLedger(ctx, p.Key, p.Requests)
		fillFound(p, views, err)
	}
}

// fillFound fills a batch with the found orders.
func fillFound(p *coalesce.Batch[string, found], views map[string]order.View, err error) {
	if p.Err = err; err != nil {
		return
	}
	p.Answers = make([]found, len(p.Requests))
	for i, id := range p.Requests {
		p.Answers[i].view, p.Answers[i].ok = views[id]
	}
}

// forget drops the queues of sales that nobody requests any more.
func (s *statusReader) forget() {
	s.line.Forget()
	s.ledger.Forget()
}

func (s *statusReader) wait() {
	s.line.Wait()
	s.ledger.Wait()
}
