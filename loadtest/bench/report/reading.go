package report

import (
	"time"
)

// Target is what a ratio, or the value itself where there is no yardstick, must reach.
type Target struct {
	AtLeast, AtMost float64 // both 0: it is shown and not judged
}

// Reading is one side's result in one round.
type Reading struct {
	Value float64
	Work  float64                  // units of work that CPU was spent on
	CPU   map[string]time.Duration // by process
	Note  string                   // what else the table should say
}

// Reached judges a median.
func (t Target) Reached(median float64) bool {
	return median >= t.AtLeast && (t.AtMost == 0 || median <= t.AtMost)
}

// Judged reports whether there is anything to reach.
func (t Target) Judged() bool { return t != Target{} }
