package main

import (
	"context"
	"errors"
	"time"
)

const unpaid = 10_000

// payWithin is long enough to confirm all before the first is due.
func (o Options) payWithin() time.Duration {
	return max(time.Duration(10*o.Scale*float64(time.Second)), 4*time.Second)
}

// expiry measures how long it takes to end orders that were not paid, all of them due at once: their deadlines pass
// while no worker runs, and the time is that from its start, its coming up included, to the last order's end.
func expiry(ctx context.Context, l *Lab) (Trial, error) {
	size := max(l.opt.scaled(unpaid), 2_000)
	setup := Setup{Driver: "mysql", Env: []string{"SLUICE_PAYMENT__TIMEOUT=" + l.opt.payWithin().String(),
		"SLUICE_PAYMENT__SECRET=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}}
	return Trial{Sluice: func(ctx context.Context) (Reading, error) {
		s, _, err := l.filled(ctx, setup, size)
		if err != nil {
			return Reading{}, err
		}
		took, err := s.expire(ctx, size)
		if err != nil {
			return Reading{}, errors.Join(err, s.close())
		}
		return Reading{Value: took.Seconds()}, s.finish(ctx)
	}}, nil
}

func (s *System) expire(ctx context.Context, size int) (time.Duration, error) {
	confirmer, err := s.serve(ctx, "worker")
	if err != nil {
		return 0, err
	}
	if _, err := confirmer.watch(ctx, float64(size)); err != nil {
		return 0, err
	}
	if err := s.retire(confirmer); err != nil {
		return 0, err
	}
	select { // no worker runs, and the last order's deadline passes
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(s.lab.opt.payWithin()):
	}
	began := time.Now()
	worker, err := s.serve(ctx, "worker")
	if err != nil {
		return 0, err
	}
	ended, err := worker.until(ctx, float64(size), "ended", func(m Metrics) (float64, error) {
		return m.sum("sluice_orders_finished_total", `status="expired"`), nil
	})
	return ended.Sub(began), err
}
