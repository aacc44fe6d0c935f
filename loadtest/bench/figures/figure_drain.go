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

// drainSize returns how many orders wait when the worker starts, enough for seconds of work.
func drainSize(o lab.Options) int { return max(o.Scaled(100_000), 15_000) }

// drain measures how fast a worker makes waiting orders durable. It compares with hand-written inserts of the same
// rows, with the fastest batch size and number of writers.
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

// measureDrain fills a line through a gateway, starts a worker and measures its time.
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

// startFilled starts a system whose gateway has admitted size orders, without workers.
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

// drainLine starts a process in some roles that drains the line. It measures from the log line that says that it runs
// until all orders are confirmed. The hand-written writers are timed the same way.
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
	watchEvery = 20 * time.Millisecond // near the end, which decides the time
	// at most, before the end: a check costs Sluice CPU time, and the hand-written writers have none
	watchSeldom   = 250 * time.Millisecond
	watchPatience = 5 * time.Minute
)

// watchDrain checks a process until it has confirmed size orders, and returns when.
func watchDrain(ctx context.Context, n *lab.Node, size float64) (time.Time, error) {
	return waitUntil(ctx, n, size, "confirmed", func(m lab.Metrics) (float64, error) {
		confirmed := m.Sum("sluice_orders_finished_total", `status="confirmed"`)
		if all := m.Sum("sluice_orders_finished_total"); all != confirmed {
			return 0, lab.Refuse("%.0f orders ended otherwise than confirmed", all-confirmed)
		}
		return confirmed, nil
	})
}

// waitForNotifications waits until notifications of size orders are delivered.
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

// nextLook returns the wait before the next check. It is a fifth of the estimated remaining time, within the bounds
// above. It is at most 2 % of the time so far. Uneven progress makes the estimate poor.
func nextLook(done, rest float64, took time.Duration) time.Duration {
	wait := took / 50
	if done > 0 {
		wait = min(wait, time.Duration(float64(took)*rest/done/5))
	}
	return min(max(wait, watchEvery), watchSeldom)
}
