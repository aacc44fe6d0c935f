package figures

import (
	"context"
	"errors"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

const unpaid = 10_000

// payWithin returns a deadline that is long enough to confirm all orders before the first is due.
func payWithin(o lab.Options) time.Duration {
	return max(time.Duration(10*o.Scale*float64(time.Second)), 4*time.Second)
}

// expiry measures how long it takes to expire unpaid orders that are all due at once. Their deadlines pass while no
// worker runs. The time counts from the start of the worker's process to the last order's end.
func expiry(_ context.Context, l *lab.Lab) (Trial, error) {
	size := max(l.Opt.Scaled(unpaid), 2_000)
	setup := lab.Setup{Driver: "mysql", Env: []string{"SLUICE_PAYMENT__TIMEOUT=" + payWithin(l.Opt).String(),
		"SLUICE_PAYMENT__SECRET=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}}
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		s, _, err := startFilled(ctx, l, setup, size)
		if err != nil {
			return report.Reading{}, err
		}
		took, err := expireOrders(ctx, s, size)
		if err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		return report.Reading{Value: took.Seconds()}, s.Finish(ctx)
	}}, nil
}

func expireOrders(ctx context.Context, s *lab.System, size int) (time.Duration, error) {
	confirmer, err := s.Serve(ctx, "worker")
	if err != nil {
		return 0, err
	}
	if _, err := watchDrain(ctx, confirmer, float64(size)); err != nil {
		return 0, err
	}
	if err := s.Retire(confirmer); err != nil {
		return 0, err
	}
	select { // no worker runs, and the last order's deadline passes
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(payWithin(s.Lab.Opt)):
	}
	began := time.Now()
	worker, err := s.Serve(ctx, "worker")
	if err != nil {
		return 0, err
	}
	ended, err := waitUntil(ctx, worker, float64(size), "ended", func(m lab.Metrics) (float64, error) {
		return m.Sum("sluice_orders_finished_total", `status="expired"`), nil
	})
	return ended.Sub(began), err
}
