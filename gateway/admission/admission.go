// Package admission admits orders to the lines of their sales. It joins requests into few calls of Redis and repeats
// known refusals without a call.
package admission

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/server"
	"sluice/internal/coalesce"
	"sluice/inventory"
	"sluice/inventory/reconcile"
	"sluice/order/lookup"
	"sluice/queue"
)

// Timeout bounds one call of Redis, including its repetition.
const Timeout = 2 * time.Second

const (
	saleStale    = 50 * time.Millisecond
	saleWait     = time.Second            // for the database to say whether a line was loaded anew
	clockSlack   = 250 * time.Millisecond // possible error of the sale cache about Redis' clock
	admitWaiting = 20_000                 // requests of one sale that may wait in memory
	admitCall    = 1_000                  // requests of all sales in one call
	admitCalls   = 4                      // calls in flight, never two of them for one sale
)

// Parts is what an Admitter needs.
type Parts struct {
	Lines      *queue.Lines
	Sales      *inventory.SaleCache
	Reconciler *reconcile.Reconciler
	Finder     *lookup.Finder
	Panics     *server.Panics
}

// Admitter admits orders to lines. Requests that arrive during a call share the next, those of several sales in one
// round trip. Within a gateway requests of a sale are served in the order of arrival. A slow call delays only its own
// sales. Safe for concurrent use.
type Admitter struct {
	// Coalescer joins the requests of each sale. Tests may replace its Send.
	Coalescer *coalesce.Coalescer[queue.Request, *queue.Admission]

	lines      *queue.Lines
	sales      *inventory.SaleCache
	reconciler *reconcile.Reconciler
	replays    *replayReader
	metrics    *metrics
	rates      rateMeter
	refusals   refusalCaches
	now        func() time.Time
}

// New returns an Admitter for the sales of the cache.
func New(parts Parts, reg prometheus.Registerer, now func() time.Time) *Admitter {
	a := &Admitter{lines: parts.Lines, sales: parts.Sales, reconciler: parts.Reconciler,
		replays: newReplayReader(parts.Finder, parts.Panics, now), metrics: newMetrics(reg), now: now}
	a.refusals.init(parts.Lines, now, parts.Panics)
	a.Coalescer = coalesce.New(coalesce.Config[queue.Request, *queue.Admission]{PerKey: queue.MaxAdmit,
		PerCall: admitCall, Calls: admitCalls, Bound: admitWaiting, Timeout: Timeout, Now: now,
		OnPanic: parts.Panics.NoteFor("admission"), Send: a.send})
	return a
}

// Refusal returns the refusal that Redis would certainly give to any order of this user now. It returns nil when only
// Redis can decide. It calls no store.
func (a *Admitter) Refusal(sale inventory.Sale, user string) error {
	return a.refusals.get(sale.ID).refusal(sale, user)
}

// ForgetRefusal ends the repetition of a sale's refusal, because its stock has changed.
func (a *Admitter) ForgetRefusal(sale string) { a.refusals.drop(sale) }

// Admit requests a place in a sale's line; the cache must know the sale. The error is one of queue's refusals, or says
// that Redis did not answer. Then the request may be in the line; repeating it gives the answer.
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

// AdmitKeyed admits a request with an Idempotency-Key. If the line has forgotten orders, it first looks for the request
// in the database.
func (a *Admitter) AdmitKeyed(ctx context.Context, sale string, r queue.Request) (queue.Admission, error) {
	if entry, ok := a.sales.Get(sale); ok && entry.View().Forgotten > 0 {
		if replay, ok, err := a.replays.find(ctx, sale, r); ok {
			return replay, err
		}
	}
	return a.Admit(ctx, sale, r)
}

// loadedAnew reports whether the line was loaded with a newer epoch than old's. If not, it wakes the reconciler. It
// reads the database for one request only, so that it delays no others.
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

// Forget drops the state of sales from which nobody orders any more.
func (a *Admitter) Forget() {
	a.Coalescer.Forget()
	a.refusals.forget()
	a.metrics.forget(isOver(a.sales))
}

// Wait returns when no order is on its way to Redis.
func (a *Admitter) Wait() {
	a.Coalescer.Wait()
	a.refusals.wait()
}

// WaitAll returns when no call of a store is in flight.
func (a *Admitter) WaitAll() {
	a.Wait()
	a.replays.coalescer.Wait()
}
