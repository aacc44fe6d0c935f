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
	"sluice/internal/killpoint"
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

type batch = coalesce.Batch[queue.Request, *queue.Admission]

// sentBatch is a batch with the sale as the cache knew it when it was sent.
type sentBatch struct {
	*batch
	sale inventory.Sale
}

// send carries batches to Redis and brings the answers back.
func (a *Admitter) send(ctx context.Context, batches []batch) {
	sent, asks := a.prepare(batches)
	if len(asks) == 0 {
		return
	}
	taken := 0
	defer func() { // also when it panics: somebody may be in the line whom the filter does not know
		for _, b := range sent[taken:] {
			a.refusals.drop(b.Key)
		}
	}()
	killpoint.Pass("admit.before")
	defer killpoint.Pass("admit.after")
	results := a.callTwice(ctx, asks)
	for i, b := range sent {
		a.takeOver(b, &results[i])
		taken++
	}
}

// takeOver fills a batch with its result.
func (a *Admitter) takeOver(b sentBatch, result *queue.AdmitResult) {
	if result.Err != nil {
		b.Err = result.Err
		a.refusals.drop(b.Key) // somebody may be in the line whom the filter does not know
		return
	}
	a.refusals.of(b.Key).learn(b.sale, result)
	b.Answers, b.Err = pointers(result.Admissions), nil
}

// pointers points at admissions: they are large, and travel through several hands.
func pointers(admissions []queue.Admission) []*queue.Admission {
	all := make([]*queue.Admission, len(admissions))
	for i := range admissions {
		all[i] = &admissions[i]
	}
	return all
}

// prepare turns batches into asks. It answers at once those of sales that the cache does not know.
func (a *Admitter) prepare(batches []batch) ([]sentBatch, []queue.Ask) {
	sent, asks := make([]sentBatch, 0, len(batches)), make([]queue.Ask, 0, len(batches))
	size := 0
	for i := range batches {
		b := &batches[i]
		entry, ok := a.sales.Get(b.Key)
		if !ok {
			b.Err = queue.ErrNotReady
			continue
		}
		entry.Touch(a.now())
		size += len(b.Requests)
		sent = append(sent, sentBatch{b, entry.Sale})
		asks = append(asks, queue.Ask{Line: a.refusals.of(b.Key).seen.line, Epoch: entry.Sale.Epoch,
			Rate: entry.Rate(), Stopped: entry.Stopped(), Requests: b.Requests})
	}
	if size > 0 {
		a.metrics.size.Observe(float64(size))
	}
	return sent, asks
}

// earlierDeadline is a context with an earlier deadline. The client gives it to
// the socket; a timer beside that would only cost.
type earlierDeadline struct {
	context.Context
	at time.Time
}

func (d earlierDeadline) Deadline() (time.Time, bool) { return d.at, true }

// callTwice repeats what failed once. The first reply may have been lost after
// the work was done, and the same ids then get the same answers.
func (a *Admitter) callTwice(ctx context.Context, asks []queue.Ask) []queue.AdmitResult {
	sent := a.sales.Now()
	results := a.lines.Admit(earlierDeadline{ctx, time.Now().Add(Timeout / 2)}, asks)
	var again []int
	for i := range results {
		if err := results[i].Err; err != nil && !errors.Is(err, queue.ErrNotReady) {
			again = append(again, i)
		}
	}
	if len(again) == 0 || ctx.Err() != nil {
		return results
	}
	repeated := make([]queue.Ask, len(again))
	for i, n := range again {
		repeated[i] = asks[n]
	}
	for i, second := range a.lines.Admit(ctx, repeated) {
		for j := range second.Admissions {
			// What the lost reply had admitted is new to its shopper; what is older is a replay all the same.
			one := &second.Admissions[j]
			one.Replayed = one.Replayed && one.Ticket.AdmittedAt.Before(sent.Add(-clockSlack))
		}
		results[again[i]] = second
	}
	return results
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
