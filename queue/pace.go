package queue

import (
	"sync/atomic"
	"time"
)

// Batches grow with what waits: up to ordinary tickets whenever they are
// there, of a longer line one part in batchShare, so that several workers have
// some of it. queue.batch is the bound.
const (
	ordinary   = 200
	batchShare = 2
)

// pace bounds how large a batch may grow by how long batches take, so that one
// of a slow database still ends far within its lease. Safe for concurrent use.
type pace struct {
	target time.Duration // most time for one batch
	most   atomic.Int64
}

// A batch takes a tenth of its lease at most; the first is small enough for
// any database, and later ones grow at most eightfold at a time.
const (
	paceShare = 10
	paceFirst = 1000
	paceGrow  = 8
)

func newPace(lease time.Duration) *pace {
	p := &pace{target: lease / paceShare}
	p.most.Store(paceFirst)
	return p
}

// portion is what a worker may claim when batches are bounded by batch.
func (p *pace) portion(batch int) Portion {
	most := min(batch, int(p.most.Load()))
	return Portion{Most: most, Least: min(ordinary, most), Share: batchShare}
}

// ended learns from a batch of so many tickets that took so long. One that
// failed can only have been too large: a store that is away fails quickly.
func (p *pace) ended(size int, took time.Duration, well bool) {
	most := p.most.Load()
	fits := int64(float64(size) * float64(p.target) / float64(max(took, time.Microsecond)))
	// A small batch tells that no larger one would do, but not that one would.
	if fits > most && (!well || int64(size)*2 < most) {
		return
	}
	p.most.Store(min(max(fits, most/paceGrow, 1), most*paceGrow, MaxBatch))
}
