package inventory

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"sluice/internal/meter"
	"sluice/queue"
)

const (
	// FirstDrainRate is what expected waits go by until anything has been measured anywhere, in tickets per second. No
	// promise rests on it.
	FirstDrainRate = 500.0
	// rateWindow is how far back the drain rate is measured. Batches end in lumps; over a window of many lumps it is
	// even.
	rateWindow = 5 * time.Second
	// rateAfter is the least window: before, a known rate is kept, because one lump more or less would double it.
	rateAfter = time.Second
	leastRate = 0.1 // something is divided by it
)

// Drain is how fast a line drains and what stands before its next ticket.
type Drain struct {
	PerSecond float64       // tickets; positive
	Measured  bool          // here, in another line, or in an earlier run; else PerSecond is FirstDrainRate
	InWork    int64         // tickets that workers have taken and not ended: they come before all that wait
	Stopped   time.Duration // how much longer nobody works the line off; 0: somebody does
}

// ETA returns the expected wait of a ticket at this place in line, in whole seconds. The wait ends when its order is
// committed. Place 0 is a ticket in work: at most so long.
func (d Drain) ETA(position int64) int64 {
	return int64(math.Ceil(d.wait(position).Seconds()))
}

func (d Drain) wait(position int64) time.Duration {
	return d.Stopped + time.Duration(min(float64(position+d.InWork)/d.PerSecond, math.MaxInt32)*float64(time.Second))
}

// rateMeter measures how fast a line drains when it has something to drain: tickets per second whose orders are
// committed. An idle line says nothing about how fast it could be, so only spans throughout which tickets waited are
// measured. A line that waits and does not move slows down to almost 0. What comes and goes between two idle moments
// is a lower bound all the same. It counts where it is more than what is known.
type rateMeter struct {
	measured   number
	lowerBound number              // while nothing is measured
	served     meter.Window[int64] // of the observing goroutine, over rateWindow
	idle       sample              // when nothing was in the line or in work
	passing    passage             // since when it is counted what goes through
}

type sample struct {
	at     time.Time
	served int64
}

// passage is a sample from which on is counted what goes through, while the epoch stays.
type passage struct {
	sample
	epoch, held int64 // tickets that were in flight then, and may have been worked on before
}

// number is a float64 that one goroutine sets and others read; 0 at first.
type number struct{ bits atomic.Uint64 }

func (n *number) get() float64  { return math.Float64frombits(n.bits.Load()) }
func (n *number) set(v float64) { n.bits.Store(math.Float64bits(v)) }

// drain returns the line's own rate where it has been measured, else the one known from elsewhere, 0 for none.
func (r *rateMeter) drain(elsewhere float64) Drain {
	if own := r.measured.get(); own > 0 {
		return Drain{PerSecond: own, Measured: true}
	}
	if known := max(elsewhere, r.lowerBound.get()); known > 0 {
		return Drain{PerSecond: max(known, leastRate), Measured: true}
	}
	return Drain{PerSecond: FirstDrainRate}
}

// observe learns from two looks at the line that follow each other. It reports whether it has newly measured a line
// that moves. One goroutine calls it.
func (r *rateMeter) observe(before, after queue.View) bool {
	r.measureIdle(after)
	busy := before.Exists && after.Exists && before.Waiting > 0 && after.Waiting > 0
	if busy {
		r.passing = passage{}
	} else {
		r.measurePassing(after)
	}
	if !busy || after.Served < before.Served || !after.Now.After(before.Now) {
		r.served.Clear()
		return false
	}
	if r.served.Len() == 0 {
		r.served.Add(before.Now, before.Served, rateWindow)
	}
	first := r.served.Add(after.Now, after.Served, rateWindow)
	span, served := after.Now.Sub(first.At), after.Served-first.Value
	if span < rateAfter && (r.measured.get() != 0 || served == 0) {
		return false
	}
	r.measured.set(max(float64(served)/span.Seconds(), leastRate))
	return span >= rateAfter && after.Served > before.Served
}

// measureIdle takes what was served from one idle moment to the next.
func (r *rateMeter) measureIdle(now queue.View) {
	if !now.Exists || now.InFlight() {
		return
	}
	was := r.idle
	r.idle = sample{now.Now, now.Served}
	span := now.Now.Sub(was.at).Seconds()
	if was.at.IsZero() || now.Served <= was.served || span <= 0 {
		return
	}
	r.atLeast(float64(now.Served-was.served) / span)
}

// measurePassing takes what went through a line that is neither seen idle nor with tickets that wait. Where workers
// hold as many as its cap lets in, nothing else would ever be known of it. The cap would stay.
func (r *rateMeter) measurePassing(now queue.View) {
	was := r.passing
	next := passage{sample{now.Now, now.Served}, now.Epoch, now.Bounded}
	span := now.Now.Sub(was.at)
	switch {
	case !now.Exists || was.at.IsZero() || now.Epoch != was.epoch || now.Served < was.served || span < 0:
		r.passing = next
	case span >= rateAfter:
		r.passing = next
		r.atLeast(float64(now.Served-was.served-was.held) / span.Seconds())
	}
}

// atLeast notes a lower bound of the rate.
func (r *rateMeter) atLeast(rate float64) {
	switch own := r.measured.get(); {
	case own == 0:
		r.lowerBound.set(max(r.lowerBound.get(), rate))
	case rate > own:
		r.measured.set(rate)
	}
}

// Flow is how fast a line moves, in tickets a second over a window of about five seconds. Unlike Rate, which says how
// fast it could be drained, an idle line has a flow of 0. Window is 0 until it has been looked at twice.
type Flow struct {
	Admitted, Drained float64
	Window            time.Duration
}

type flowMeter struct {
	flow  atomic.Pointer[Flow]
	views meter.Window[queue.View] // of the observing goroutine, over rateWindow
}

func (m *flowMeter) now() Flow {
	if p := m.flow.Load(); p != nil {
		return *p
	}
	return Flow{}
}

// observe takes a look at the line into account. One goroutine calls it.
func (m *flowMeter) observe(v queue.View) {
	if last, found := m.views.Last(); found {
		// Counters that went back are those of another line: it was lost, or dropped.
		if was := last.Value; !v.Exists || v.Seq < was.Seq || v.Served < was.Served || !v.Now.After(was.Now) {
			m.views.Clear()
		}
	}
	if !v.Exists {
		m.flow.Store(nil)
		return
	}
	first := m.views.Add(v.Now, v, rateWindow).Value
	p := Flow{Window: v.Now.Sub(first.Now)}
	if seconds := p.Window.Seconds(); seconds > 0 {
		p.Admitted, p.Drained = float64(v.Seq-first.Seq)/seconds, float64(v.Served-first.Served)/seconds
	}
	m.flow.Store(&p)
}

// shareEvery is how often the rate is exchanged with Redis.
const shareEvery = time.Second

// sharedRate is the drain rate that was measured last in any line. Lines that have not been measured themselves go by
// it. It outlives the process in Redis. All but perSecond belong to the goroutine that looks at the lines.
type sharedRate struct {
	perSecond number // 0: none
	kept      float64
	exchanged time.Time
}

// exchange keeps what was measured here, or takes what others have kept.
func (k *sharedRate) exchange(ctx context.Context, lines *queue.Lines, now time.Time) {
	if now.Sub(k.exchanged) < shareEvery {
		return
	}
	k.exchanged = now
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	here := k.perSecond.get()
	if here != k.kept && math.Abs(here-k.kept) > k.kept/20 {
		if lines.NoteDrainRate(ctx, here) == nil {
			k.kept = here
		}
		return
	}
	if there, err := lines.DrainRate(ctx); err == nil && there > 0 {
		k.perSecond.set(there)
		k.kept = there
	}
}
