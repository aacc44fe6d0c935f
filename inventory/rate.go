package inventory

import (
	"math"
	"sync/atomic"
	"time"

	"sluice/queue"
)

// firstRate is assumed until a line has been seen draining under load.
const firstRate = 500.0

// rate is how fast a line drains when it has something to drain, in tickets
// per second. An idle line says nothing about how fast it could be, so only
// spans that begin and end with tickets in flight are measured.
type rate struct{ bits atomic.Uint64 }

const rateWeight = 0.2 // of a new measurement of a tenth of a second

func (r *rate) perSecond() float64 {
	if v := math.Float64frombits(r.bits.Load()); v > 0 {
		return v
	}
	return firstRate
}

// observe learns from two looks at the line. Called by one goroutine.
func (r *rate) observe(before, after queue.View) {
	span := after.Now.Sub(before.Now)
	served := after.Served - before.Served
	if !before.Exists || !after.Exists || span < 10*time.Millisecond || served <= 0 || before.Waiting == 0 || after.Waiting == 0 {
		return
	}
	measured := float64(served) / span.Seconds()
	if r.bits.Load() != 0 {
		measured = rateWeight*measured + (1-rateWeight)*r.perSecond()
	}
	r.bits.Store(math.Float64bits(max(measured, 0.1)))
}
