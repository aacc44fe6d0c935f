package figures

import (
	"context"
	"errors"
	"fmt"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// cost compares the CPU time of an order in all processes between a small and a large case. It runs all roles on
// MariaDB, with the same number of shoppers at a time. It counts until the last notification is delivered; at the last
// confirmation the small case would have delivered few.
type cost struct {
	small, large costCase
}

type costCase struct {
	orders, sales int
}

// costOfOrders checks whether the work grows with the number of existing orders.
func costOfOrders(_ context.Context, l *lab.Lab) (Trial, error) {
	return cost{small: costCase{10_000, 1}, large: costCase{max(l.Opt.Scaled(1_000_000), 20_000), 1}}.open(l)
}

// costOfSales checks whether the work grows with the number of sales.
func costOfSales(_ context.Context, l *lab.Lab) (Trial, error) {
	orders, sales := max(l.Opt.Scaled(100_000), 10_000), max(l.Opt.Scaled(1_000), 100)
	return cost{small: costCase{orders, 1}, large: costCase{orders, sales}}.open(l)
}

func (c cost) open(l *lab.Lab) (Trial, error) {
	note := fmt.Sprintf("%s orders in %d sales against %s in %d", report.Number(float64(c.large.orders)), c.large.sales,
		report.Number(float64(c.small.orders)), c.small.sales)
	small, err := c.small.requests(l)
	if err != nil {
		return Trial{}, err
	}
	large, err := c.large.requests(l)
	if err != nil {
		return Trial{}, err
	}
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) { return c.small.spend(ctx, l, small) },
		Sluice: func(ctx context.Context) (report.Reading, error) {
			r, err := c.large.spend(ctx, l, large)
			r.Note = note
			return r, err
		},
	}, nil
}

func saleName(n int) string { return fmt.Sprintf("s%04d", n) }

func (c costCase) requests(l *lab.Lab) (lab.Requests, error) {
	return l.Orders(fmt.Sprintf("orders-%d-sales-%d", c.orders, c.sales), c.orders,
		func(n int) string { return saleName(n % c.sales) })
}

// spend sells everything and returns the CPU time of each order, in µs.
func (c costCase) spend(ctx context.Context, l *lab.Lab, requests lab.Requests) (report.Reading, error) {
	s, err := startOn(ctx, l, lab.Setup{Driver: "mysql"}, allRoles)
	if err != nil {
		return report.Reading{}, err
	}
	r, err := c.sell(ctx, s, requests)
	if err != nil {
		return r, errors.Join(err, s.Close())
	}
	return r, s.Finish(ctx)
}

func (c costCase) sell(ctx context.Context, s *lab.System, requests lab.Requests) (report.Reading, error) {
	n := s.Nodes[0]
	for i := range c.sales {
		if err := n.Open(ctx, lab.Sale{ID: saleName(i), Stock: hugeStock, Cap: hugeCap}); err != nil {
			return report.Reading{}, err
		}
	}
	clock := machine.StartCPU(s.PIDs())
	if _, err := s.Fill(ctx, n, requests); err != nil {
		return report.Reading{}, err
	}
	if _, err := watchDrain(ctx, n, float64(c.orders)); err != nil {
		return report.Reading{}, err
	}
	if err := waitForNotifications(ctx, n, float64(c.orders)); err != nil {
		return report.Reading{}, err
	}
	r := report.Reading{Work: float64(c.orders), CPU: clock.Used()}
	r.Value = float64(machine.Sum(r.CPU).Microseconds()) / r.Work
	return r, nil
}
