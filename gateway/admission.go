package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/coalesce"
	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/queue"
)

const (
	admitTimeout = 2 * time.Second
	bookStale    = 50 * time.Millisecond
	bookWait     = time.Second            // for a database that should tell whether a line was loaded anew
	clockSlack   = 250 * time.Millisecond // by which the book may misjudge Redis' clock
	admitWaiting = 20_000                 // requests of one sale that may wait in memory
	admitCall    = 1_000                  // requests of all sales in one call
	admitCalls   = 4                      // calls in flight, never two of them for one sale
)

// Admission takes orders into lines. Requests that come while a call is in
// flight travel together in the next, those of several sales in one round
// trip. Within a gateway first come is first served; a slow call delays the
// sales it carries and no others.
type Admission struct {
	lines   *queue.Lines
	book    *inventory.SaleCache
	keeper  *inventory.Reconciler
	metrics *admissionMetrics
	now     func() time.Time
	gather  *coalesce.Coalescer[queue.Request, *queue.Admission]
	doors   doors
}

// NewAdmission returns an admission for the sales of the book.
func NewAdmission(parts Parts, reg prometheus.Registerer, now func() time.Time) *Admission {
	a := &Admission{lines: parts.Lines, book: parts.Book, keeper: parts.Keeper,
		metrics: newAdmissionMetrics(reg), now: now}
	a.doors.init(parts.Lines, now, parts.Panics)
	a.gather = coalesce.New(coalesce.Config[queue.Request, *queue.Admission]{PerKey: queue.MaxAdmit, PerCall: admitCall,
		Calls: admitCalls, Bound: admitWaiting, Timeout: admitTimeout, Now: now,
		OnPanic: parts.Panics.Noting("admission"), Send: a.send})
	return a
}

// Refusal is what Redis would answer to any order of this user right now, as
// far as the gateway knows for sure; nil when it has to be asked. It costs no
// call to a store.
func (a *Admission) Refusal(sale inventory.Sale, user string) error {
	return a.doors.of(sale.ID).refusal(sale, user)
}

// Admit asks for a place in a sale's line; the sale must be in the book. The
// error is one of queue's refusals, or says that Redis did not answer: the
// request may then be in the line, and repeating it tells.
func (a *Admission) Admit(ctx context.Context, sale string, r queue.Request) (queue.Admission, error) {
	started := a.now()
	known, _ := a.book.Get(sale)
	answer, err := a.gather.Do(ctx, sale, r)
	if errors.Is(err, queue.ErrNotReady) && known != nil && a.loadedAnew(ctx, known.Sale) {
		answer, err = a.gather.Do(ctx, sale, r)
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

type admitBatch = coalesce.Batch[queue.Request, *queue.Admission]

// errand is a batch with the sale as the book knew it when it was sent.
type errand struct {
	*admitBatch
	sale inventory.Sale
}

// send carries batches to Redis and brings the answers back.
func (a *Admission) send(ctx context.Context, batches []admitBatch) {
	errands, asks := a.asks(batches)
	if len(asks) == 0 {
		return
	}
	heard := 0
	defer func() { // also when it panics: somebody may be in the line of whom the crowd has not heard
		for _, e := range errands[heard:] {
			a.doors.open(e.Key)
		}
	}()
	killpoint.Pass("admit.before")
	defer killpoint.Pass("admit.after")
	told := a.ask(ctx, asks)
	for i, e := range errands {
		a.hear(e, &told[i])
		heard++
	}
}

// hear takes over what became of an errand.
func (a *Admission) hear(e errand, told *queue.AdmitResult) {
	if told.Err != nil {
		e.Err = told.Err
		a.doors.open(e.Key) // somebody may be in the line of whom the crowd has not heard
		return
	}
	a.doors.of(e.Key).learn(e.sale, told)
	e.Answers, e.Err = each(told.Admissions), nil
}

// each points at admissions: they are large, and travel through several hands.
func each(admissions []queue.Admission) []*queue.Admission {
	all := make([]*queue.Admission, len(admissions))
	for i := range admissions {
		all[i] = &admissions[i]
	}
	return all
}

// asks turns batches into asks; those of sales the book does not know are
// answered at once.
func (a *Admission) asks(batches []admitBatch) ([]errand, []queue.Ask) {
	errands, asks := make([]errand, 0, len(batches)), make([]queue.Ask, 0, len(batches))
	size := 0
	for i := range batches {
		p := &batches[i]
		entry, ok := a.book.Get(p.Key)
		if !ok {
			p.Err = queue.ErrNotReady
			continue
		}
		entry.Touch(a.now())
		size += len(p.Requests)
		errands = append(errands, errand{p, entry.Sale})
		asks = append(asks, queue.Ask{Line: a.doors.of(p.Key).crowd.line, Epoch: entry.Sale.Epoch, Rate: entry.Rate(),
			Stopped: entry.Stopped(), Requests: p.Requests})
	}
	if size > 0 {
		a.metrics.size.Observe(float64(size))
	}
	return errands, asks
}

// sooner is a context with an earlier deadline. The client gives it to the
// socket; a timer beside that would only cost.
type sooner struct {
	context.Context
	at time.Time
}

func (s sooner) Deadline() (time.Time, bool) { return s.at, true }

// ask repeats what failed once: a first reply may be lost after the work was
// done, and the same ids then get the same answers.
func (a *Admission) ask(ctx context.Context, asks []queue.Ask) []queue.AdmitResult {
	sent := a.book.Now()
	told := a.lines.Admit(sooner{ctx, time.Now().Add(admitTimeout / 2)}, asks)
	var again []int
	for i := range told {
		if err := told[i].Err; err != nil && !errors.Is(err, queue.ErrNotReady) {
			again = append(again, i)
		}
	}
	if len(again) == 0 || ctx.Err() != nil {
		return told
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
		told[again[i]] = second
	}
	return told
}

// loadedAnew reports whether the line has been loaded under a newer epoch than
// the book knew, and wakes the keeper when it has not. It reads the database,
// and so belongs to the one request: a call to Redis carries others, too.
func (a *Admission) loadedAnew(ctx context.Context, old inventory.Sale) bool {
	ctx, cancel := context.WithTimeout(ctx, bookWait)
	defer cancel()
	if err := a.book.RefreshOlderThan(ctx, bookStale); err != nil {
		return false
	}
	if now, ok := a.book.Get(old.ID); ok && now.Sale.Epoch != old.Epoch {
		return true
	}
	a.keeper.Wake()
	return false
}

// forget lets go of what is kept for sales that nobody orders from any more.
func (a *Admission) forget() {
	a.gather.Forget()
	a.doors.forget()
	a.metrics.forget(overIn(a.book))
}

// Wait returns when no call is in flight any more.
func (a *Admission) Wait() {
	a.gather.Wait()
	a.doors.wait()
}
