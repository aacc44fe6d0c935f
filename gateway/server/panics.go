package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	panicPause = time.Second // before a function that panicked runs again
	panicEvery = time.Second // at most one panic of each part is logged in this time
)

// Panics keeps the process alive when work for several callers panics. It logs the stack and counts the panics. Safe
// for concurrent use.
type Panics struct {
	log   *slog.Logger
	total *prometheus.CounterVec
	now   func() time.Time

	mu   sync.Mutex
	last map[string]*panicCount // by part; the code has a fixed number of them
}

type panicCount struct {
	at    time.Time
	since int // panics panics not logged since then
}

// NewPanics returns a Panics that counts in reg. All Panics with one reg share the counter.
func NewPanics(log *slog.Logger, reg prometheus.Registerer, now func() time.Time) *Panics {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_panics_total",
		Help: "Panics that were caught, by the part that panicked; anything but 0 is a defect."}, []string{"part"})
	var known prometheus.AlreadyRegisteredError
	if err := reg.Register(total); errors.As(err, &known) {
		total = known.ExistingCollector.(*prometheus.CounterVec)
	} else if err != nil {
		panic(err) // as MustRegister does: a mistake in the code
	}
	return &Panics{log: log, total: total, now: now, last: map[string]*panicCount{}}
}

// Counter returns the counter of one part.
func (p *Panics) Counter(part string) prometheus.Counter { return p.total.WithLabelValues(part) }

// Catch recovers a panic of the function that defers it, and notes it.
func (p *Panics) Catch(part string) {
	if cause := recover(); cause != nil {
		p.Note(part, cause)
	}
}

// Run calls f until it returns, or panics after ctx has ended. After a panic it waits a second and calls f again.
func (p *Panics) Run(ctx context.Context, part string, f func(context.Context)) {
	for !p.runOnce(ctx, part, f) {
		pause := time.NewTimer(panicPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// runOnce calls f and reports whether f returned without a panic.
func (p *Panics) runOnce(ctx context.Context, part string, f func(context.Context)) (ended bool) {
	defer p.Catch(part)
	f(ctx)
	return true
}

// NoteFor returns a function that calls Note for one part.
func (p *Panics) NoteFor(part string) func(cause any) {
	return func(cause any) { p.Note(part, cause) }
}

// Note counts a panic, and logs it with the stack of its caller.
func (p *Panics) Note(part string, cause any) {
	p.total.WithLabelValues(part).Inc()
	others, due := p.count(part)
	if !due {
		return
	}
	stack := debug.Stack()
	p.log.Error("panic caught: a defect; what it served has failed", "in", part, "panic", fmt.Sprint(cause),
		"others_since", others,
		"stack", string(stack[:min(len(stack), maxStackBytes)]))
}

// count counts a panic. due says that it shall be logged, with others, the number of unlogged ones.
func (p *Panics) count(part string) (others int, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, known := p.now(), p.last[part]
	if known != nil && now.Sub(known.at) < panicEvery {
		known.since++
		return 0, false
	}
	if known != nil {
		others = known.since
	}
	p.last[part] = &panicCount{at: now}
	return others, true
}
