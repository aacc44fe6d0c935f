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

// sustained measures how many orders/s one process in all roles admits and confirms. The time runs from the first
// request to the last confirmation.
func sustained(_ context.Context, l *lab.Lab) (Trial, error) {
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) { return openSustained(ctx, l) }}, nil
}

func openSustained(ctx context.Context, l *lab.Lab) (report.Reading, error) {
	orders, err := l.OrdersIn(benchSale.ID, l.Opt.PerRun())
	if err != nil {
		return report.Reading{}, err
	}
	s, err := startOn(ctx, l, lab.Setup{Driver: "mysql"}, allRoles, benchSale)
	if err != nil {
		return report.Reading{}, err
	}
	r, err := sustain(ctx, s, orders)
	if err != nil {
		return r, errors.Join(err, s.Close())
	}
	return r, s.Finish(ctx)
}

func sustain(ctx context.Context, s *lab.System, orders lab.Requests) (report.Reading, error) {
	n := s.Nodes[0]
	clock, began := machine.StartCPU(s.PIDs()), time.Now()
	d, err := s.Lab.Wrk(ctx, lab.Load{Addr: n.HTTP, Connections: 64, Length: s.Lab.Opt.Length, Requests: orders})
	if err != nil {
		return report.Reading{}, err
	}
	if err := d.Check(202, machine.Sum(clock.Used())); err != nil {
		return report.Reading{}, err
	}
	m, err := n.SettledMetrics(ctx)
	if err != nil {
		return report.Reading{}, err
	}
	admitted := m.Sum("sluice_orders_admitted_total")
	last, err := watchDrain(ctx, n, admitted)
	if err != nil {
		return report.Reading{}, err
	}
	cpu := clock.Used()
	cpu["generator"] = d.CPU
	return report.Reading{Value: admitted / last.Sub(began).Seconds(), Work: admitted, CPU: cpu},
		lab.CheckCounts(lab.Metrics{}, m, lab.Expected{Route: lab.OrdersRoute, Status: 202}, d.Requests, 2*64)
}

// confirmation measures the time from a shopper's scheduled arrival until their long poll says confirmed. It follows
// one shopper in ten, at half the sustained rate.
func confirmation(_ context.Context, l *lab.Lab) (Trial, error) {
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		rate, err := openSustained(ctx, l) // of the same round
		if err != nil {
			return report.Reading{}, err
		}
		half := rate.Value / 2
		count := int(half * 2 * l.Opt.Length.Seconds())
		orders, err := l.OrdersIn(benchSale.ID, max(l.Opt.PerRun(), count))
		if err != nil {
			return report.Reading{}, err
		}
		s, err := startOn(ctx, l, lab.Setup{Driver: "mysql"}, allRoles, benchSale)
		if err != nil {
			return report.Reading{}, err
		}
		a := lab.Arrivals{Addr: s.Nodes[0].HTTP, Requests: orders, Rate: half, Count: count, Connections: openLoad,
			FollowEvery: 10}
		v, err := lab.Arrive(ctx, a)
		if err == nil {
			err = v.Check(a)
		}
		if err == nil && v.Status[202] != count {
			err = lab.Refuse("of %d orders %d were accepted: %v", count, v.Status[202], v.Status)
		}
		if err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		if _, err := watchDrain(ctx, s.Nodes[0], float64(count)); err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		note := fmt.Sprintf("in the first round at %s orders/s, p50 %.1f ms; one owner in ten followed by long poll",
			report.Number(half), millis(lab.Percentile(v.Confirmed, 50)))
		return report.Reading{Value: millis(lab.Percentile(v.Confirmed, 99)), Note: note}, s.Finish(ctx)
	}}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
