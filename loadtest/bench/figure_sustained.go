package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// sustained measures what one process in all roles takes in and confirms while
// it is under load: orders/s from the first request to the last confirmation.
func sustained(ctx context.Context, l *Lab) (Trial, error) {
	return Trial{Sluice: func(ctx context.Context) (Reading, error) { return l.sustain(ctx) }}, nil
}

func (l *Lab) sustain(ctx context.Context) (Reading, error) {
	orders, err := l.ordersIn(benchSale.ID, l.opt.perRun())
	if err != nil {
		return Reading{}, err
	}
	s, err := l.gatewayOn(ctx, Setup{Driver: "mysql"}, allRoles, benchSale)
	if err != nil {
		return Reading{}, err
	}
	r, err := s.sustain(ctx, orders)
	if err != nil {
		return r, errors.Join(err, s.close())
	}
	return r, s.finish(ctx)
}

func (s *System) sustain(ctx context.Context, orders Requests) (Reading, error) {
	n := s.nodes[0]
	clock, began := startCPU(s.pids()), time.Now()
	d, err := s.lab.wrk(ctx, Load{Addr: n.HTTP, Connections: 64, Length: s.lab.opt.Length, Requests: orders})
	if err != nil {
		return Reading{}, err
	}
	if err := d.check(202, sum(clock.used())); err != nil {
		return Reading{}, err
	}
	m, err := n.settledMetrics(ctx)
	if err != nil {
		return Reading{}, err
	}
	admitted := m.sum("sluice_orders_admitted_total")
	last, err := n.watch(ctx, admitted)
	if err != nil {
		return Reading{}, err
	}
	cpu := clock.used()
	cpu["generator"] = d.CPU
	return Reading{Value: admitted / last.Sub(began).Seconds(), Work: admitted, CPU: cpu},
		checkCounts(Metrics{}, m, Expected{Route: ordersRoute, Status: 202}, d.Requests, 2*64)
}

// confirmation is the time from when a shopper should have come until their
// long poll says confirmed, for one shopper in ten, at half the sustained rate.
func confirmation(ctx context.Context, l *Lab) (Trial, error) {
	return Trial{Sluice: func(ctx context.Context) (Reading, error) {
		rate, err := l.sustain(ctx) // of the same round
		if err != nil {
			return Reading{}, err
		}
		half := rate.Value / 2
		count := int(half * 2 * l.opt.Length.Seconds())
		orders, err := l.ordersIn(benchSale.ID, max(l.opt.perRun(), count))
		if err != nil {
			return Reading{}, err
		}
		s, err := l.gatewayOn(ctx, Setup{Driver: "mysql"}, allRoles, benchSale)
		if err != nil {
			return Reading{}, err
		}
		a := Arrivals{Addr: s.nodes[0].HTTP, Requests: orders, Rate: half, Count: count, Connections: openLoad,
			FollowEvery: 10}
		v, err := arrive(ctx, a)
		if err == nil {
			err = v.check(a)
		}
		if err == nil && v.Status[202] != count {
			err = refuse("of %d orders %d were accepted: %v", count, v.Status[202], v.Status)
		}
		if err != nil {
			return Reading{}, errors.Join(err, s.close())
		}
		if _, err := s.nodes[0].watch(ctx, float64(count)); err != nil {
			return Reading{}, errors.Join(err, s.close())
		}
		note := fmt.Sprintf("in the first round at %s orders/s, p50 %.1f ms; one owner in ten followed by long poll",
			number(half), millis(percentile(v.Confirmed, 50)))
		return Reading{Value: millis(percentile(v.Confirmed, 99)), Note: note}, s.finish(ctx)
	}}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
