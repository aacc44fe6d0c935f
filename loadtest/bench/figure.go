package main

import (
	"context"
	"time"
)

// Figure is one row of the table.
type Figure struct {
	Name    string // for --only
	Title   string // what is measured on Sluice
	Against string // what the same is measured on; empty: the value itself is judged
	Unit    string // of both values
	Target  Target
	Effort  Effort // for the estimate
	Open    func(ctx context.Context, l *Lab) (Trial, error)
}

// Target is what a ratio, or the value itself where there is no yardstick, must reach.
type Target struct {
	AtLeast, AtMost float64 // both 0: it is shown and not judged
}

// Reached judges a median.
func (t Target) Reached(median float64) bool {
	return median >= t.AtLeast && (t.AtMost == 0 || median <= t.AtMost)
}

// Judged reports whether there is anything to reach.
func (t Target) Judged() bool { return t != Target{} }

// Trial measures one figure. Its sides are called by turns, one round after the other.
type Trial struct {
	Yardstick func(ctx context.Context) (Reading, error) // nil: the value itself is judged
	Sluice    func(ctx context.Context) (Reading, error)
	Close     func() error // may be nil
}

// Effort is how long a figure takes on a quiet machine with two cores and the default length. It serves the estimate
// alone.
type Effort struct {
	Once, Round time.Duration
}

const (
	someEffort = 15 * time.Second // of a round nobody has timed
	leastScale = 0.25             // of an effort, however few the orders: systems start and stop
)

// estimate is roughly how long the figures take.
func estimate(list []Figure, opt Options) time.Duration {
	var all time.Duration
	for _, f := range list {
		round := f.Effort.Round
		if round == 0 {
			round = someEffort
		}
		all += f.Effort.Once + time.Duration(opt.Rounds)*round
	}
	return time.Duration(float64(all) * max(opt.Scale, leastScale))
}

// Reading is one side's result in one round.
type Reading struct {
	Value float64
	Work  float64                  // units of work that CPU was spent on
	CPU   map[string]time.Duration // by process
	Note  string                   // what else the table should say
}
