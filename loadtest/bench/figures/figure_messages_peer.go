package figures

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// peerWorkers is how many calls are under way at once on either side: delay.workers by default.
const peerWorkers = 64

// messagesPeer measures messages that are due at the next full second, from the first one added to the last one
// delivered. asynq does the same beside it, with the same receiver and an equally durable Redis.
func messagesPeer(_ context.Context, l *lab.Lab) (Trial, error) {
	size := max(l.Opt.Scaled(10_000), 2_000)
	job := lab.Job{Orders: size, Batch: 1, Workers: peerWorkers}
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) {
			r, err := receive()
			if err != nil {
				return report.Reading{}, err
			}
			defer r.Close()
			reading, err := job.Messages(ctx, l, r.url)
			if count, _, bad := r.got(); err == nil && (bad != nil || count != size) {
				err = errors.Join(bad, lab.Refuse("of %d messages %d came", size, count))
			}
			return reading, err
		},
		Sluice: func(ctx context.Context) (report.Reading, error) { return deliverAll(ctx, l, size) },
	}, nil
}

func deliverAll(ctx context.Context, l *lab.Lab, size int) (report.Reading, error) {
	r, err := receive()
	if err != nil {
		return report.Reading{}, err
	}
	defer r.Close()
	s, err := startDelayed(ctx, l, r.url)
	if err != nil {
		return report.Reading{}, err
	}
	clock, began := machine.StartCPU(s.PIDs()), time.Now()
	due := began.Truncate(time.Second).Add(time.Second)
	err = addMessages(ctx, s.Nodes[0], 0, size, func(int) time.Time { return due })
	last, missing := r.await(ctx, size)
	reading := report.Reading{Value: float64(size) / last.Sub(began).Seconds(), Work: float64(size), CPU: clock.Used(),
		Note: fmt.Sprintf("%s messages, %d calls at once on both sides", report.Number(float64(size)), peerWorkers)}
	if err = errors.Join(err, missing); err != nil {
		return reading, errors.Join(err, s.Close())
	}
	return reading, s.Finish(ctx)
}
