// Package admission takes orders into the lines of their sales. It joins requests into few calls, and repeats by
// itself what Redis would answer anyway.
package admission

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/server"
	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/order/lookup"
	"sluice/queue"
)

// Timeout bounds one call to Redis, its repetition included.
const Timeout = 2 * time.Second

const (
	saleStale    = 50 * time.Millisecond
	saleWait     = time.Second            // for a database that should tell whether a line was loaded anew
	clockSlack   = 250 * time.Millisecond // by which the sale cache may misjudge Redis' clock
	admitWaiting = 20_000                 // requests of one sale that may wait in memory
	admitCall    = 1_000                  // requests of all sales in one call
	admitCalls   = 4                      // calls in flight, never two of them for one sale
)

// Parts are what an Admitter stands on.
type Parts struct {
	Lines      *queue.Lines
	Sales      *inventory.SaleCache
	Reconciler *inventory.Reconciler
	Finder     *lookup.Finder
	Panics     *server.Panics
}

// Admitter takes orders into lines. Requests that come while a call is in
// flight travel together in the next, those of several sales in one round
// trip. Within a gateway first come is first served. A slow call delays the
// sales it carries and no others. Safe for concurrent use.
type Admitter struct {
	// Coalescer joins the requests of each sale. A test may hold its calls back.
	Coalescer *coalesce.Coalescer[queue.Request, *queue.Admission]

	lines      *queue.Lines
	sales      *inventory.SaleCache
	reconciler *inventory.Reconciler
	replays    *replayReader
	metrics    *metrics
	rates      rateMeter
	refusals   refusalCaches
	now        func() time.Time
}

// New returns an admitter for the sales of the cache.
func New(parts Parts, reg prometheus.Registerer, now func() time.Time) *Admitter {
	a := &Admitter{lines: parts.Lines, sales: parts.Sales, reconciler: parts.Reconciler,
		replays: newReplayReader(parts.Finder, parts.Panics, now), metrics: newMetrics(reg), now: now}
	a.refusals.init(parts.Lines, now, parts.Panics)
	a.Coalescer = coalesce.New(coalesce.Config[queue.Request, *queue.Admission]{PerKey: queue.MaxAdmit,
		PerCall: admitCall, Calls: admitCalls, Bound: admitWaiting, Timeout: Timeout, Now: now,
		OnPanic: parts.Panics.Noting("admission"), Send: a.send})
	return a
}

// Refusal returns what Redis would answer to any order of this user right now,
// as far as the gateway knows for sure. It returns nil when Redis has to be
// asked. It costs no call to a store.
func (a *Admitter) Refusal(sale inventory.Sale, user string) error {
	return a.refusals.of(sale.ID).refusal(sale, user)
}

// ForgetRefusal ends the repetition of a sale's refusal: there is news of its stock.
func (a *Admitter) ForgetRefusal(sale string) { a.refusals.drop(sale) }

// Admit asks for a place in a sale's line; the cache must know the sale. The
// error is one of queue's refusals, or says that Redis did not answer. In that
// case the request may be in the line, and repeating it tells.
func (a *Admitter) Admit(ctx context.Context, sale string, r queue.Request) (queue.Admission, error) {
	started := a.now()
	known, _ := a.sales.Get(sale)
	answer, err := a.Coalescer.Do(ctx, sale, r)
	if errors.Is(err, queue.ErrNotReady) && known != nil && a.loadedAnew(ctx, known.Sale) {
		answer, err = a.Coalescer.Do(ctx, sale, r)
	}
	a.metrics.seconds.Observe(a.now().Sub(started).Seconds())
	if err != nil {
		return queue.Admission{}, err
	}
	if answer.Err == nil && !answer.Replayed {
		a.metrics.admit(sale)
	}
	return *answer, answer.Err
}

// AdmitKeyed is Admit for a request with an Idempotency-Key. When the line has
// forgotten orders, it looks for the request in the database first.
func (a *Admitter) AdmitKeyed(ctx context.Context, sale string, r queue.Request) (queue.Admission, error) {
	if entry, ok := a.sales.Get(sale); ok && entry.View().Forgotten > 0 {
		if replay, ok, err := a.replays.find(ctx, sale, r); ok {
			return replay, err
		}
	}
	return a.Admit(ctx, sale, r)
}

// loadedAnew reports whether the line has been loaded under a newer epoch than
// the cache knew, and wakes the reconciler when it has not. It reads the
// database, and so belongs to the one request: a call to Redis carries others.
func (a *Admitter) loadedAnew(ctx context.Context, old inventory.Sale) bool {
	ctx, cancel := context.WithTimeout(ctx, saleWait)
	defer cancel()
	if err := a.sales.RefreshOlderThan(ctx, saleStale); err != nil {
		return false
	}
	if now, ok := a.sales.Get(old.ID); ok && now.Sale.Epoch != old.Epoch {
		return true
	}
	a.reconciler.Wake()
	return false
}

// Forget lets go of what is kept for sales that nobody orders from any more.
func (a *Admitter) Forget() {
	a.Coalescer.Forget()
	a.refusals.forget()
	a.metrics.forget(isOver(a.sales))
}

// Wait returns when no order is on its way to Redis any more.
func (a *Admitter) Wait() {
	a.Coalescer.Wait()
	a.refusals.wait()
}

// WaitAll returns when no call to a store is in flight any more.
func (a *Admitter) WaitAll() {
	a.Wait()
	a.replays.coalescer.Wait()
}
