// Package meter measures rates over a sliding window of samples.
package meter

import "time"

// Sample is the value of counters at one moment.
type Sample[T any] struct {
	At    time.Time
	Value T
}

// Window has the samples of the last span, and one that is at least as old as the span. The zero value is ready for
// use. Not safe for concurrent use.
type Window[T any] struct{ samples []Sample[T] }

// Add appends a sample, which must not be older than the last. It drops those that are too old for the span. It
// returns the oldest remaining sample, from which to measure a rate. For the first sample that is the sample itself.
func (w *Window[T]) Add(at time.Time, value T, span time.Duration) (oldest Sample[T]) {
	w.samples = append(w.samples, Sample[T]{at, value})
	for len(w.samples) > 2 && at.Sub(w.samples[1].At) >= span {
		w.samples = w.samples[1:]
	}
	return w.samples[0]
}

// Last returns the newest sample, or false when there is none.
func (w *Window[T]) Last() (last Sample[T], found bool) {
	if len(w.samples) == 0 {
		return last, false
	}
	return w.samples[len(w.samples)-1], true
}

// Len returns how many samples there are.
func (w *Window[T]) Len() int { return len(w.samples) }

// Clear removes all samples.
func (w *Window[T]) Clear() { w.samples = w.samples[:0] }
