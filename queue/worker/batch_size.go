package worker

import (
	"sync/atomic"
	"time"

	"sluice/queue"
)

// Batches grow with what waits. Up to ordinary tickets are claimed whenever they are there. Of a
// longer line a worker takes its share, and queue.batch is the bound.
const (
	ordinary = 200
	group    = 100  // isolated tickets that are given a second try together
	part     = 2500 // tickets of one claim and one settle
)

// writers says how a database takes batches of one line. It has how many run at the same time in
// this process, and how large they may become. A worker takes one part in share of what waits. An
// isolated ticket, which runs alone, does not count.
type writers struct{ batches, most, share int }

// writersOf returns how a database with n writers takes batches. They all end at the same stock
// row. Databases were measured to do best with two to four writers and some thousand orders each.
// More wait for each other. One that has a single writer does best with as many orders as it can
// get. While one batch is written, another is claimed or settled.
func writersOf(n int) writers {
	if n == 1 {
		return writers{batches: 2, most: queue.MaxBatch, share: 1}
	}
	return writers{batches: 3, most: queue.MaxBatch / 4, share: 2}
}

// sizer bounds how large a batch may grow by how long batches take. So one of a slow database still
// ends far within its lease. Safe for concurrent use.
type sizer struct {
	writers
	target time.Duration // most time for one batch
	fits   atomic.Int64  // tickets
}

// A batch takes a tenth of its lease at most. The first is small enough for any database, and later
// ones grow at most eightfold at a time.
const (
	leaseShare = 10
	firstSize  = 500
	mostGrowth = 8
)

func newSizer(lease time.Duration, oneWriter bool) *sizer {
	n := 4
	if oneWriter {
		n = 1
	}
	s := &sizer{writers: writersOf(n), target: lease / leaseShare}
	s.fits.Store(firstSize)
	return s
}

// bound returns how many tickets a worker may claim when batches are bounded by batch.
func (s *sizer) bound(batch int) int { return min(batch, s.most, int(s.fits.Load())) }

// firstPortion returns what a worker claims before it knows how many tickets wait. A group of
// isolated tickets costs those of them that are not to blame an attempt. Where that may be their
// last but one, isolated tickets run alone from the start.
func (s *sizer) firstPortion(most, attempts int) queue.Portion {
	first := queue.Portion{Most: min(most, part), Least: min(most, ordinary), Share: s.share, Isolated: 1}
	if attempts > 2 {
		first.Isolated = min(most, group)
	}
	return first
}

// remaining returns how much more a worker may claim, by the tickets that its first claim has left.
func (s *sizer) remaining(most int, first queue.Batch) int {
	if first.Isolated || first.Size() < part {
		return 0
	}
	waited := int(first.Left) + first.Size()
	return max(min(most, waited/s.share)-first.Size(), 0)
}

// learn takes in how long a batch of so many tickets took. One that took no longer than it may says nothing when it
// failed, because a store is away then. It says nothing when it was small, because most of its time was not for its
// tickets then.
func (s *sizer) learn(size int, took time.Duration, well bool) {
	most := s.fits.Load()
	if took <= s.target && (!well || int64(size)*2 < most) {
		return
	}
	fits := int64(float64(size) * float64(s.target) / float64(max(took, time.Microsecond)))
	s.fits.Store(min(max(fits, most/mostGrowth, 1), most*mostGrowth, queue.MaxBatch))
}
