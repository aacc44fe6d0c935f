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

// drainSize is how many orders wait when the worker starts, enough for seconds of work.
func drainSize(o lab.Options) int { return max(o.Scaled(100_000), 15_000) }

// drain measures how fast a worker turns waiting orders into durable ones,
// against the same rows written by hand with the batch size and the number of
// writers that are fastest here.
func drain(driver string) func(context.Context, *lab.Lab) (Trial, error) {
	return func(ctx context.Context, l *lab.Lab) (Trial, error) {
		first := lab.Job{Orders: l.Opt.Scaled(25_000) + 5_000, Batch: 500, Workers: 4}
		if driver == "sqlite" {
			first.Workers = 1
		}
		chosen, err := search{"sql", driver, drainSize(l.Opt)}.best(ctx, l, first)
		if err != nil {
			return Trial{}, err
		}
		chosen.Orders = drainSize(l.Opt)
		note := fmt.Sprintf("the hand-written SQL does best with %d orders in a transaction and %d writers",
			chosen.Batch, chosen.Workers)
		return drainTrial(l, driver, note, func(ctx context.Context) (report.Reading,
			error) {
			return chosen.Run(ctx, l, "sql", driver)
		}), nil
	}
}

// asynqPeer measures the same against one transaction per order, on MariaDB.
func asynqPeer(ctx context.Context, l *lab.Lab) (Trial, error) {
	orders := max(l.Opt.Scaled(10_000), 1_000)
	chosen, err := search{"asynq", "mysql", orders}.best(ctx, l, lab.Job{Orders: orders / 2, Batch: 1, Workers: 32})
	if err != nil {
		return Trial{}, err
	}
	chosen.Orders = orders
	note := fmt.Sprintf("asynq does best with %d workers", chosen.Workers)
	return drainTrial(l, "mysql", note, func(ctx context.Context) (report.Reading,
		error) {
		return chosen.Run(ctx, l, "asynq", "mysql")
	}), nil
}

func drainTrial(l *lab.Lab, driver, note string, yardstick func(context.Context) (report.Reading, error)) Trial {
	return Trial{
		Yardstick: yardstick,
		Sluice: func(ctx context.Context) (report.Reading, error) {
			r, err := measureDrain(ctx, l, driver)
			r.Note = note
			return r, err
		},
	}
}

// drained fills a line through a gateway, starts a worker and times it.
func measureDrain(ctx context.Context, l *lab.Lab, driver string) (report.Reading, error) {
	s, size, err := startFilled(ctx, l, lab.Setup{Driver: driver}, drainSize(l.Opt))
	if err != nil {
		return report.Reading{}, err
	}
	r, err := drainLine(ctx, s, size, "worker")
	if err == nil {
		err = s.DB.Holds(ctx, size)
	}
	if err != nil {
		return r, errors.Join(err, s.Close())
	}
	return r, s.Finish(ctx)
}

// filled is a system whose gateway has taken size orders that nobody drains.
func startFilled(ctx context.Context, l *lab.Lab, setup lab.Setup, size int) (*lab.System, int, error) {
	orders, err := l.OrdersIn(benchSale.ID, max(l.Opt.PerRun(), size))
	if err != nil {
		return nil, 0, err
	}
	s, err := startOn(ctx, l, setup, "gateway", benchSale)
	if err != nil {
		return nil, 0, err
	}
	orders.Count = size
	if _, err := s.Fill(ctx, s.Nodes[0], orders); err != nil {
		return nil, 0, errors.Join(err, s.Close())
	}
	return s, size, nil
}

// drain starts a process that works the line off, in some roles, and measures from when it says that it runs until all
// orders are seen confirmed. The hand-written writers are timed alike: from when they are ready, all orders count.
func drainLine(ctx context.Context, s *lab.System, size int, roles string) (report.Reading, error) {
	worker, err := s.Serve(ctx, roles)
	if err != nil {
		return report.Reading{}, err
	}
	clock := machine.StartCPU(s.PIDs())
	done, err := watchDrain(ctx, worker, float64(size))
	if err != nil {
		return report.Reading{}, err
	}
	return report.Reading{Value: float64(size) / done.Sub(worker.Since).Seconds(), Work: float64(size),
		CPU: clock.Used()}, nil
}

const (
	watchEvery = 20 * time.Millisecond // at the end, which is what is timed
	// at most, before: a look costs Sluice some CPU time, and the hand-written writers are not looked at
	watchSeldom   = 250 * time.Millisecond
	watchPatience = 5 * time.Minute
)

// watch looks at a process until it has confirmed size orders and returns when that was seen.
func watchDrain(ctx context.Context, n *lab.Node, size float64) (time.Time, error) {
	return waitUntil(ctx, n, size, "confirmed", func(m lab.Metrics) (float64, error) {
		confirmed := m.Sum("sluice_orders_finished_total", `status="confirmed"`)
		if all := m.Sum("sluice_orders_finished_total"); all != confirmed {
			return 0, lab.Refuse("%.0f orders ended otherwise than confirmed", all-confirmed)
		}
		return confirmed, nil
	})
}

// told waits until the news of size orders has been delivered.
func waitForNotifications(ctx context.Context, n *lab.Node, size float64) error {
	_, err := waitUntil(ctx, n, size, "told", func(m lab.Metrics) (float64, error) {
		return m.Sum("sluice_notifications_total", `outcome="delivered"`), nil
	})
	return err
}

func waitUntil(ctx context.Context, n *lab.Node, size float64, what string,
	count func(lab.Metrics) (float64, error)) (time.Time,
	error) {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	first := -1.0
	for began := time.Now(); ; {
		m, err := n.Metrics(ctx)
		if err != nil {
			return time.Time{}, fmt.Errorf("wait for %.0f orders to be %s: %w", size, what, err)
		}
		done, err := count(m)
		if err != nil {
			return time.Time{}, err
		}
		if done >= size {
			return time.Now(), nil
		}
		if first < 0 {
			first = done
		}
		select {
		case <-ctx.Done():
			return time.Time{}, lab.Refuse("only %.0f of %.0f orders were %s within %s", done, size, what,
				watchPatience)
		case <-time.After(nextLook(done-first, size-done, time.Since(began))):
		}
	}
}

// nextLook is how long to wait when some was done in the time that this took: a fifth of what the rest will take, and
// no more than 2 % of what it took so far, within the bounds above. Progress in leaps makes the guess of the rest a
// poor one.
func nextLook(done, rest float64, took time.Duration) time.Duration {
	wait := took / 50
	if done > 0 {
		wait = min(wait, time.Duration(float64(took)*rest/done/5))
	}
	return min(max(wait, watchEvery), watchSeldom)
}
