package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	farOff     = 12 * time.Hour        // when messages are due that only wait
	fireLead   = 3 * time.Second       // from the last message added to the first one due
	addPerTick = 10_000                // messages/s that are added at the least, to plan with
	lookEvery  = 50 * time.Millisecond // at what has come
	firePer    = 12_500                // messages due in a second where the rate is judged
	latePer    = 10_000                // and where lateness is
)

// delayedAdds measures how fast messages for later are taken, a thousand in a call.
func delayedAdds(_ context.Context, l *Lab) (Trial, error) {
	size := max(l.opt.scaled(500_000), 50_000)
	return Trial{Sluice: func(ctx context.Context) (Reading, error) {
		s, err := l.delayed(ctx, "http://127.0.0.1:9")
		if err != nil {
			return Reading{}, err
		}
		clock, began, due := startCPU(s.pids()), time.Now(), time.Now().Add(farOff)
		err = s.nodes[0].add(ctx, 0, size, func(int) time.Time { return due })
		r := Reading{Value: float64(size) / time.Since(began).Seconds(), Work: float64(size), CPU: clock.used()}
		held, asked := s.nodes[0].waiting(ctx)
		if err = errors.Join(err, asked); err == nil && held != size {
			err = refuse("of %d messages that were added %d wait", size, held)
		}
		if err != nil {
			return r, errors.Join(err, s.close())
		}
		return r, s.finish(ctx)
	}}, nil
}

// firing delivers messages that are due one after the other, per a second, while a million others wait, and takes value
// of what came.
func firing(per int, value func(rate float64, late []time.Duration) float64) func(context.Context, *Lab) (Trial,
	error) {
	return func(_ context.Context, l *Lab) (Trial, error) {
		pending := max(l.opt.scaled(1_000_000), 50_000)
		return Trial{Sluice: func(ctx context.Context) (Reading, error) {
			r, err := receive()
			if err != nil {
				return Reading{}, err
			}
			defer r.Close()
			s, err := l.delayed(ctx, r.url)
			if err != nil {
				return Reading{}, err
			}
			rate, late, cpu, err := s.fire(ctx, r, pending, per)
			if err != nil {
				return Reading{}, errors.Join(err, s.close())
			}
			note := fmt.Sprintf("%s due in each second while %s wait; in the first round p99 %.0f ms late",
				number(float64(per)), number(float64(pending)), millis(percentile(late, 99)))
			return Reading{Value: value(rate, late), Work: float64(len(late)), CPU: cpu, Note: note}, s.finish(ctx)
		}}, nil
	}
}

// fire returns how many messages/s came from the first due time to the last arrival, and how late each was.
func (s *System) fire(ctx context.Context, r *receiver, pending, per int) (float64, []time.Duration,
	map[string]time.Duration, error) {
	n, size := s.nodes[0], int(s.lab.opt.Length.Seconds())*per
	later := time.Now().Add(farOff)
	if err := n.add(ctx, 0, pending, func(int) time.Time { return later }); err != nil {
		return 0, nil, nil, err
	}
	first := time.Now().Add(fireLead + time.Duration(size)*time.Second/addPerTick)
	due := func(i int) time.Time { return first.Add(time.Duration(i-pending) * time.Second / time.Duration(per)) }
	if err := n.add(ctx, pending, pending+size, due); err != nil {
		return 0, nil, nil, err
	}
	if time.Now().After(first) {
		return 0, nil, nil, refuse("the messages were due before all were added: too slow to time")
	}
	clock := startCPU(s.pids())
	last, err := r.await(ctx, size)
	if err != nil {
		return 0, nil, nil, err
	}
	cpu := clock.used()
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(size) / last.Sub(first).Seconds(), slices.Collect(maps.Values(r.late)), cpu, nil
}

// await waits until size messages have come and returns when the last did.
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
			return last, refuse("only %d of %d messages came within %s", count, size, watchPatience)
		case <-tick.C:
		}
	}
}
