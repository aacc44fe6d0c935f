package figures

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

const (
	farOff     = 12 * time.Hour        // delay of messages that only wait
	fireLead   = 3 * time.Second       // time between the last message added and the first one due
	addPerTick = 10_000                // least messages/s that are added, for planning
	lookEvery  = 50 * time.Millisecond // between two checks of the receiver
	firePer    = 12_500                // messages due in a second for the rate
	latePer    = 10_000                // and for the lateness
)

// delayedAdds measures how fast messages for later are added, a thousand in a call.
func delayedAdds(_ context.Context, l *lab.Lab) (Trial, error) {
	size := max(l.Opt.Scaled(500_000), 50_000)
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		s, err := startDelayed(ctx, l, "http://127.0.0.1:9")
		if err != nil {
			return report.Reading{}, err
		}
		clock, began, due := machine.StartCPU(s.PIDs()), time.Now(), time.Now().Add(farOff)
		err = addMessages(ctx, s.Nodes[0], 0, size, func(int) time.Time { return due })
		r := report.Reading{Value: float64(size) / time.Since(began).Seconds(), Work: float64(size), CPU: clock.Used()}
		held, asked := countWaiting(ctx, s.Nodes[0])
		if err = errors.Join(err, asked); err == nil && held != size {
			err = lab.Refuse("of %d messages that were added %d wait", size, held)
		}
		if err != nil {
			return r, errors.Join(err, s.Close())
		}
		return r, s.Finish(ctx)
	}}, nil
}

// firing measures the delivery of messages, per of them due each second, while a million others wait. value extracts
// the reading.
func firing(per int, value func(rate float64, late []time.Duration) float64) func(context.Context, *lab.Lab) (Trial,
	error) {
	return func(_ context.Context, l *lab.Lab) (Trial, error) {
		pending := max(l.Opt.Scaled(1_000_000), 50_000)
		return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
			r, err := receive()
			if err != nil {
				return report.Reading{}, err
			}
			defer r.Close()
			s, err := startDelayed(ctx, l, r.url)
			if err != nil {
				return report.Reading{}, err
			}
			rate, late, cpu, err := measureFiring(ctx, s, r, pending, per)
			if err != nil {
				return report.Reading{}, errors.Join(err, s.Close())
			}
			note := fmt.Sprintf("%s due in each second while %s wait; in the first round p99 %.0f ms late",
				report.Number(float64(per)), report.Number(float64(pending)), millis(lab.Percentile(late, 99)))
			return report.Reading{Value: value(rate, late), Work: float64(len(late)), CPU: cpu,
				Note: note}, s.Finish(ctx)
		}}, nil
	}
}

// measureFiring returns the messages/s from the first due time to the last arrival, and how late each was.
func measureFiring(ctx context.Context, s *lab.System, r *receiver, pending, per int) (float64, []time.Duration,
	map[string]time.Duration, error) {
	n, size := s.Nodes[0], int(s.Lab.Opt.Length.Seconds())*per
	later := time.Now().Add(farOff)
	if err := addMessages(ctx, n, 0, pending, func(int) time.Time { return later }); err != nil {
		return 0, nil, nil, err
	}
	first := time.Now().Add(fireLead + time.Duration(size)*time.Second/addPerTick)
	due := func(i int) time.Time { return first.Add(time.Duration(i-pending) * time.Second / time.Duration(per)) }
	if err := addMessages(ctx, n, pending, pending+size, due); err != nil {
		return 0, nil, nil, err
	}
	if time.Now().After(first) {
		return 0, nil, nil, lab.Refuse("the messages were due before all were added: too slow to time")
	}
	clock := machine.StartCPU(s.PIDs())
	last, err := r.await(ctx, size)
	if err != nil {
		return 0, nil, nil, err
	}
	cpu := clock.Used()
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(size) / last.Sub(first).Seconds(), slices.Collect(maps.Values(r.late)), cpu, nil
}

// await waits until size messages have come and returns when the last came.
func (r *receiver) await(ctx context.Context, size int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		count, last, err := r.got()
		if err != nil || count >= size {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, lab.Refuse("only %d of %d messages came within %s", count, size, watchPatience)
		case <-tick.C:
		}
	}
}
