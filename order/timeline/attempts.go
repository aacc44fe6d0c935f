package timeline

import (
	"time"

	"sluice/queue"
)

// attemptsOf returns the attempts of the journal, and those whose worker could not note them any more. The numbers of
// the latter are missing there, and the line remembers from whom it took them over.
func attemptsOf(steps []queue.Step, reclaimed []queue.ReclaimedBatch) []Event {
	var events []Event
	last, reclaimed := 0, unnoted(reclaimed, steps)
	lose := func(number int, when time.Time) {
		e := Event{At: when, Step: "lost", Attempt: number, Reason: "its worker died or outlived its lease"}
		if len(reclaimed) > 0 {
			e.At, e.Instance, reclaimed = reclaimed[0].At, reclaimed[0].Instance, reclaimed[1:]
		}
		events = append(events, e)
	}
	for _, s := range steps {
		for n := last + 1; n < s.Attempt; n++ {
			lose(n, s.At.Add(-s.Took))
		}
		last = s.Attempt
		events = append(events, Event{At: s.At, Step: s.What, Took: s.Took, Attempt: s.Attempt, Instance: s.Instance,
			Reason: s.Reason})
	}
	for len(reclaimed) > 0 {
		last++
		lose(last, reclaimed[0].At)
	}
	return events
}

// unnoted leaves out batches that the journal has as attempts that panicked, since the worker could not settle
// them either. It leaves out as many as there are more batches than attempts missing in the journal.
func unnoted(reclaimed []queue.ReclaimedBatch, steps []queue.Step) (left []queue.ReclaimedBatch) {
	more := len(reclaimed)
	if n := len(steps); n > 0 {
		more -= steps[n-1].Attempt - n
	}
	taken := make(map[int]bool, len(steps))
	for _, batch := range reclaimed {
		noted := -1
		for i, s := range steps {
			before := !s.At.Truncate(time.Millisecond).After(batch.At) // Redis tells no more than milliseconds
			if s.What == stepPanicked && !taken[i] && (batch.Instance == "" || s.Instance == batch.Instance) && before {
				noted = i
			}
		}
		if more <= 0 || noted < 0 {
			left = append(left, batch)
			continue
		}
		taken[noted] = true
		more--
	}
	return left
}
