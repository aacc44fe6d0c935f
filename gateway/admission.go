package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/killpoint"
	"sluice/inventory"
	"sluice/queue"
)

const (
	admitTimeout = 2 * time.Second
	bookStale    = 50 * time.Millisecond
	admitWaiting = 20_000 // requests of one sale that may wait in memory
)

// Admission takes orders into lines. Requests for one sale travel together,
// one call in flight per line, so that first come is first served within a
// gateway and a slow call delays its own sale only.
type Admission struct {
	lines   *queue.Lines
	book    *inventory.Book
	keeper  *inventory.Keeper
	metrics *admissionMetrics
	now     func() time.Time
	sales   sync.Map // sale id → *gatherer[queue.Request, queue.Admission]; bounded by the sales of the book
}

// NewAdmission returns an admission for the sales of the book.
func NewAdmission(lines *queue.Lines, book *inventory.Book, keeper *inventory.Keeper, reg prometheus.Registerer, now func() time.Time) *Admission {
	return &Admission{lines: lines, book: book, keeper: keeper, metrics: newAdmissionMetrics(reg), now: now}
}

// Admit asks for a place in a sale's line; the sale must be in the book. The
// error is one of queue's refusals, or says that Redis did not answer: the
// request may then be in the line, and repeating it tells.
func (a *Admission) Admit(ctx context.Context, sale string, r queue.Request) (queue.Admission, error) {
	found, ok := a.sales.Load(sale)
	if !ok {
		found, _ = a.sales.LoadOrStore(sale, &gatherer[queue.Request, queue.Admission]{
			most: queue.MaxAdmit, calls: 1, bound: admitWaiting, timeout: admitTimeout,
			send: func(ctx context.Context, requests []queue.Request) ([]queue.Admission, error) {
				return a.send(ctx, sale, requests)
			},
		})
	}
	started := a.now()
	admission, err := found.(*gatherer[queue.Request, queue.Admission]).do(ctx, r)
	if err == nil {
		err = admission.Err
	}
	a.metrics.seconds.Observe(a.now().Sub(started).Seconds())
	if err == nil {
		if !admission.Replayed {
			a.metrics.admitted.WithLabelValues(sale).Inc()
		}
	}
	return admission, err
}

// send asks twice: a first reply may be lost after the work was done, and the
// same ids then get the same answers.
func (a *Admission) send(ctx context.Context, sale string, requests []queue.Request) ([]queue.Admission, error) {
	entry, ok := a.book.Get(sale)
	if !ok {
		return nil, queue.ErrNotReady
	}
	a.metrics.size.Observe(float64(len(requests)))
	killpoint.Pass("admit.before")
	defer killpoint.Pass("admit.after")
	line := a.lines.Of(sale)
	first, cancel := context.WithTimeout(ctx, admitTimeout/2)
	answers, err := line.Admit(first, entry.Sale.Epoch, entry.Rate(), requests)
	cancel()
	if err != nil && !errors.Is(err, queue.ErrNotReady) && ctx.Err() == nil {
		answers, err = line.Admit(ctx, entry.Sale.Epoch, entry.Rate(), requests)
		for i := range answers {
			// What the lost reply had admitted is new to its shopper; what is older is a replay all the same.
			answers[i].Replayed = answers[i].Replayed && a.book.Now().Sub(answers[i].Ticket.AdmittedAt) > 2*admitTimeout
		}
	}
	if errors.Is(err, queue.ErrNotReady) {
		return a.sendAnew(ctx, line, entry, requests, err)
	}
	return answers, err
}

// sendAnew asks again when the line has been loaded under a newer epoch than
// the book knew; otherwise it wakes the keeper and returns the refusal.
func (a *Admission) sendAnew(ctx context.Context, line *queue.Line, old *inventory.Entry, requests []queue.Request, refusal error) ([]queue.Admission, error) {
	if err := a.book.RefreshOlderThan(ctx, bookStale); err != nil {
		return nil, refusal
	}
	if now, ok := a.book.Get(line.Sale()); ok && now.Sale.Epoch != old.Sale.Epoch {
		return line.Admit(ctx, now.Sale.Epoch, now.Rate(), requests)
	}
	a.keeper.Poke()
	return nil, refusal
}

// Wait returns when no call is in flight any more.
func (a *Admission) Wait() {
	a.sales.Range(func(_, g any) bool {
		g.(*gatherer[queue.Request, queue.Admission]).wait()
		return true
	})
}

type admissionMetrics struct {
	admitted *prometheus.CounterVec
	rejected *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     prometheus.Histogram
}

func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	m := &admissionMetrics{
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_admitted_total",
			Help: "Orders taken into a line."}, []string{"sale"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_orders_rejected_total",
			Help: "Orders refused, by the problem's code."}, []string{"sale", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_seconds",
			Help: "Time from asking for a place in line to the answer.", Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14)}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sluice_admission_batch_size",
			Help: "Requests that travelled to Redis in one call.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200}}),
	}
	reg.MustRegister(m.admitted, m.rejected, m.seconds, m.size)
	return m
}

// refused counts an order that was not taken. Unknown sales share one label:
// whoever makes ids up must not make series up.
func (a *Admission) refused(sale string, code Code) {
	if _, ok := a.book.Get(sale); !ok {
		sale = "unknown"
	}
	a.metrics.rejected.WithLabelValues(sale, string(code)).Inc()
}
