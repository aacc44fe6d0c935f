package main

import (
	"context"
	"errors"
	"fmt"
)

// cost compares the CPU time of an order, all processes together, between a
// small and a large case: from the first request until the last shopper was
// told, in all roles on MariaDB, with the same number of shoppers at a time. To
// stop at the last confirmation would flatter the small case, whose news is
// then mostly still to be delivered.
type cost struct {
	small, large costCase
}

type costCase struct {
	orders, sales int
}

// costOfOrders looks for work that grows with the orders there already are.
func costOfOrders(ctx context.Context, l *Lab) (Trial, error) {
	return cost{small: costCase{10_000, 1}, large: costCase{max(l.opt.scaled(1_000_000), 20_000), 1}}.open(l)
}

// costOfSales looks for work that grows with the sales there are.
func costOfSales(ctx context.Context, l *Lab) (Trial, error) {
	orders, sales := max(l.opt.scaled(100_000), 10_000), max(l.opt.scaled(1_000), 100)
	return cost{small: costCase{orders, 1}, large: costCase{orders, sales}}.open(l)
}

func (c cost) open(l *Lab) (Trial, error) {
	note := fmt.Sprintf("%s orders in %d sales against %s in %d", number(float64(c.large.orders)), c.large.sales,
		number(float64(c.small.orders)), c.small.sales)
	small, err := c.small.requests(l)
	if err != nil {
		return Trial{}, err
	}
	large, err := c.large.requests(l)
	if err != nil {
		return Trial{}, err
	}
	return Trial{
		Yardstick: func(ctx context.Context) (Reading, error) { return c.small.spend(ctx, l, small) },
		Sluice: func(ctx context.Context) (Reading, error) {
			r, err := c.large.spend(ctx, l, large)
			r.Note = note
			return r, err
		},
	}, nil
}

func saleName(n int) string { return fmt.Sprintf("s%04d", n) }

func (c costCase) requests(l *Lab) (Requests, error) {
	return l.orders(fmt.Sprintf("orders-%d-sales-%d", c.orders, c.sales), c.orders,
		func(n int) string { return saleName(n % c.sales) })
}

// spend sells everything and returns µs of CPU for each order.
func (c costCase) spend(ctx context.Context, l *Lab, requests Requests) (Reading, error) {
	s, err := l.gatewayOn(ctx, Setup{Driver: "mysql"}, allRoles)
	if err != nil {
		return Reading{}, err
	}
	r, err := c.sell(ctx, s, requests)
	if err != nil {
		return r, errors.Join(err, s.close())
	}
	return r, s.finish(ctx)
}

func (c costCase) sell(ctx context.Context, s *System, requests Requests) (Reading, error) {
	n := s.nodes[0]
	for i := range c.sales {
		if err := n.open(ctx, Sale{ID: saleName(i), Stock: hugeStock, Cap: hugeCap}); err != nil {
			return Reading{}, err
		}
	}
	clock := startCPU(s.pids())
	if _, err := s.fill(ctx, n, requests); err != nil {
		return Reading{}, err
	}
	if _, err := n.watch(ctx, float64(c.orders)); err != nil {
		return Reading{}, err
	}
	if err := n.told(ctx, float64(c.orders)); err != nil {
		return Reading{}, err
	}
	r := Reading{Work: float64(c.orders), CPU: clock.used()}
	r.Value = float64(sum(r.CPU).Microseconds()) / r.Work
	return r, nil
}
