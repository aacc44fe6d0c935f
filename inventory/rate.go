package inventory

import (
	"math"
	"sync/atomic"
	"time"

	"sluice/queue"
)

const (
	// FirstRate, in tickets per second, is assumed until a line has been seen draining under load.
	FirstRate = 500.0
	// rateWindow is how far back the pace is measured. Batches end in lumps; over a window of many lumps the pace is even.
	rateWindow = 5 * time.Second
	// rateAfter is the least window: before, a known pace is kept, because one lump more or less would double it.
	rateAfter = time.Second
	leastRate = 0.1 // something is divided by it
)

// rate is how fast a line drains when it has something to drain, in tickets
// per second, after the commit of their orders. An idle line says nothing
// about how fast it could be, so only spans throughout which tickets waited
// are measured; a line that waits and does not move slows down to almost 0.
type rate struct {
	bits  atomic.Uint64
	looks []look // of the observing goroutine; at most rateWindow old
}

type look struct {
	at     time.Time
	served int64
}

func (r *rate) perSecond() float64 {
	if v := math.Float64frombits(r.bits.Load()); v > 0 {
		return v
	}
	return FirstRate
}

// observe learns from two looks at the line that follow each other. Called by one goroutine.
func (r *rate) observe(before, after queue.View) {
	busy := before.Exists && after.Exists && before.Waiting > 0 && after.Waiting > 0
	if !busy || after.Served < before.Served || !after.Now.After(before.Now) {
		r.looks = r.looks[:0]
		return
	}
	if len(r.looks) == 0 {
		r.looks = append(r.looks, look{before.Now, before.Served})
	}
	r.looks = append(r.looks, look{after.Now, after.Served})
	for len(r.looks) > 2 && after.Now.Sub(r.looks[1].at) >= rateWindow {
		r.looks = r.looks[1:]
	}
	span, served := after.Now.Sub(r.looks[0].at), after.Served-r.looks[0].served
	if span < rateAfter && (r.bits.Load() != 0 || served == 0) {
		return
	}
	r.bits.Store(math.Float64bits(max(float64(served)/span.Seconds(), leastRate)))
}
