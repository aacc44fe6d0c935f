package report

import (
	"time"
)

// Target is what a ratio must reach, or the value itself if there is no yardstick.
type Target struct {
	AtLeast, AtMost float64 // both 0: there is no target
}

// Reading is one side's result in one round.
type Reading struct {
	Value float64
	Work  float64                  // units of work for which CPU was spent
	CPU   map[string]time.Duration // by process
	Note  string                   // a note for the table
}

// Reached reports whether a median reaches the target.
func (t Target) Reached(median float64) bool {
	return median >= t.AtLeast && (t.AtMost == 0 || median <= t.AtMost)
}

// Judged reports whether there is a target.
func (t Target) Judged() bool { return t != Target{} }
