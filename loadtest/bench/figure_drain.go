package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// drainSize is how many orders wait when the worker starts, enough for seconds of work.
func (o Options) drainSize() int { return max(o.scaled(100_000), 15_000) }

// drain measures how fast a worker turns waiting orders into durable ones,
// against the same rows written by hand with the batch size and the number of
// writers that are fastest here.
func drain(driver string) func(context.Context, *Lab) (Trial, error) {
	return func(ctx context.Context, l *Lab) (Trial, error) {
		first := job{orders: l.opt.scaled(25_000) + 5_000, batch: 500, workers: 4}
		if driver == "sqlite" {
			first.workers = 1
		}
		chosen, err := best(ctx, l, "sql", driver, first, l.opt.drainSize())
		if err != nil {
			return Trial{}, err
		}
		chosen.orders = l.opt.drainSize()
		note := fmt.Sprintf("the hand-written SQL does best with %d orders in a transaction and %d writers",
			chosen.batch, chosen.workers)
		return drainTrial(l, driver, note, func(ctx context.Context) (Reading,
			error) {
			return chosen.run(ctx, l, "sql", driver)
		}), nil
	}
}

// asynqPeer measures the same against one transaction per order, on MariaDB.
func asynqPeer(ctx context.Context, l *Lab) (Trial, error) {
	orders := max(l.opt.scaled(10_000), 1_000)
	chosen, err := best(ctx, l, "asynq", "mysql", job{orders: orders / 2, batch: 1, workers: 32}, orders)
	if err != nil {
		return Trial{}, err
	}
	chosen.orders = orders
	note := fmt.Sprintf("asynq does best with %d workers", chosen.workers)
	return drainTrial(l, "mysql", note, func(ctx context.Context) (Reading,
		error) {
		return chosen.run(ctx, l, "asynq", "mysql")
	}), nil
}

func drainTrial(l *Lab, driver, note string, yardstick func(context.Context) (Reading, error)) Trial {
	return Trial{
		Yardstick: yardstick,
		Sluice: func(ctx context.Context) (Reading, error) {
			r, err := l.drained(ctx, driver)
			r.Note = note
			return r, err
		},
	}
}

// drained fills a line through a gateway, starts a worker and times it.
func (l *Lab) drained(ctx context.Context, driver string) (Reading, error) {
	s, size, err := l.filled(ctx, Setup{Driver: driver}, l.opt.drainSize())
	if err != nil {
		return Reading{}, err
	}
	r, err := s.drain(ctx, size, "worker")
	if err == nil {
		err = s.db.holds(ctx, size)
	}
	if err != nil {
		return r, errors.Join(err, s.close())
	}
	return r, s.finish(ctx)
}

// filled is a system whose gateway has taken size orders that nobody drains.
func (l *Lab) filled(ctx context.Context, setup Setup, size int) (*System, int, error) {
	orders, err := l.ordersIn(benchSale.ID, max(l.opt.perRun(), size))
	if err != nil {
		return nil, 0, err
	}
	s, err := l.gatewayOn(ctx, setup, "gateway", benchSale)
	if err != nil {
		return nil, 0, err
	}
	orders.Count = size
	if _, err := s.fill(ctx, s.nodes[0], orders); err != nil {
		return nil, 0, errors.Join(err, s.close())
	}
	return s, size, nil
}

// drain starts a process that works the line off, in some roles, and measures from when it says that it runs until all
// orders are seen confirmed. The hand-written writers are timed alike: from when they are ready, all orders count.
func (s *System) drain(ctx context.Context, size int, roles string) (Reading, error) {
	worker, err := s.serve(ctx, roles)
	if err != nil {
		return Reading{}, err
	}
	clock := startCPU(s.pids())
	done, err := worker.watch(ctx, float64(size))
	if err != nil {
		return Reading{}, err
	}
	return Reading{Value: float64(size) / done.Sub(worker.since).Seconds(), Work: float64(size), CPU: clock.used()}, nil
}

const (
	watchEvery = 20 * time.Millisecond // at the end, which is what is timed
	// at most, before: a look costs Sluice some CPU time, and the hand-written writers are not looked at
	watchSeldom   = 250 * time.Millisecond
	watchPatience = 5 * time.Minute
)

// watch looks at a process until it has confirmed size orders and returns when that was seen.
func (n *Node) watch(ctx context.Context, size float64) (time.Time, error) {
	return n.until(ctx, size, "confirmed", func(m Metrics) (float64, error) {
		confirmed := m.sum("sluice_orders_finished_total", `status="confirmed"`)
		if all := m.sum("sluice_orders_finished_total"); all != confirmed {
			return 0, refuse("%.0f orders ended otherwise than confirmed", all-confirmed)
		}
		return confirmed, nil
	})
}

// told waits until the news of size orders has been delivered.
func (n *Node) told(ctx context.Context, size float64) error {
	_, err := n.until(ctx, size, "told", func(m Metrics) (float64, error) {
		return m.sum("sluice_notifications_total", `outcome="delivered"`), nil
	})
	return err
}

func (n *Node) until(ctx context.Context, size float64, what string, count func(Metrics) (float64, error)) (time.Time,
	error) {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	first := -1.0
	for began := time.Now(); ; {
		m, err := n.metrics(ctx)
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
			return time.Time{}, refuse("only %.0f of %.0f orders were %s within %s", done, size, what, watchPatience)
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
