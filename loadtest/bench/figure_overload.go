package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A generator on the same two cores cannot send ten times what an unhindered
// Sluice sustains. The overload is therefore that of a shop whose database is
// the limit: one order in a transaction, one transaction at a time, a short line.
// Nothing waits artificially, and all CPU time is fought for.
func slowShop() Setup {
	return Setup{Driver: "mysql", Env: []string{"SLUICE_QUEUE__BATCH=1", "SLUICE_POOL__SIZE=1"}}
}

const (
	overloadFactor = 10
	fullFactor     = 1.5
	openLoad       = 2000 // connections: one must always be idle
	shortLine      = 500
)

// slowDrain is what the slow shop confirms while nobody comes. The loads are multiples of it.
func (l *Lab) slowDrain(ctx context.Context) (Reading, error) {
	s, size, err := l.filled(ctx, slowShop(), max(l.opt.scaled(4_000), 250))
	if err != nil {
		return Reading{}, err
	}
	r, err := s.drain(ctx, size, allRoles)
	if err != nil {
		return r, errors.Join(err, s.close())
	}
	return r, s.finish(ctx)
}

// rush lets shoppers come to the slow shop at a rate and returns what became
// of them and how many orders/s were confirmed meanwhile.
func (l *Lab) rush(ctx context.Context, rate float64) (Visits, float64, error) {
	length := 2 * l.opt.Length
	count := int(rate * length.Seconds())
	orders, err := l.ordersIn(benchSale.ID, max(l.opt.perRun(), count))
	if err != nil {
		return Visits{}, 0, err
	}
	sale := benchSale
	sale.Cap = shortLine
	s, err := l.gatewayOn(ctx, slowShop(), allRoles, sale)
	if err != nil {
		return Visits{}, 0, err
	}
	a := Arrivals{Addr: s.nodes[0].HTTP, Requests: orders, Rate: rate, Count: count, Connections: openLoad}
	v, goodput, err := s.rush(ctx, a)
	if err != nil {
		return v, goodput, errors.Join(err, s.close())
	}
	return v, goodput, s.finish(ctx)
}

func (s *System) rush(ctx context.Context, a Arrivals) (Visits, float64, error) {
	v, err := arrive(ctx, a)
	if err == nil {
		err = v.check(a)
	}
	if err != nil {
		return v, 0, err
	}
	answered := time.Now()
	if other := a.Count - v.Status[202] - v.Status[503]; other != 0 {
		return v, 0, refuse("%d shoppers were neither accepted nor told that the line is full: %v", other, v.Status)
	}
	m, err := s.nodes[0].metrics(ctx)
	counted := time.Now()
	if err != nil {
		return v, 0, err
	}
	if full := m.sum("sluice_orders_rejected_total", `code="queue_full"`); int(full) != v.Status[503] {
		return v, 0, refuse("%d shoppers were refused, %.0f of them because the line was full", v.Status[503], full)
	}
	goodput := m.sum("sluice_orders_finished_total", `status="confirmed"`) / (v.Took + counted.Sub(answered)).Seconds()
	_, err = s.nodes[0].watch(ctx, float64(v.Status[202]))
	return v, goodput, err
}

// goodput compares what is confirmed under ten times the load with its peak: what is confirmed when just enough come to
// keep the line from running empty. Both take in what they confirm; a shop to which nobody comes does not, and its rate
// is only told.
func goodput(ctx context.Context, l *Lab) (Trial, error) {
	var drained Reading // of the same round
	return Trial{
		Yardstick: func(ctx context.Context) (r Reading, err error) {
			if drained, err = l.slowDrain(ctx); err != nil {
				return r, err
			}
			_, rate, err := l.rush(ctx, fullFactor*drained.Value)
			return Reading{Value: rate}, err
		},
		Sluice: func(ctx context.Context) (Reading, error) {
			v, rate, err := l.rush(ctx, overloadFactor*drained.Value)
			if err != nil {
				return Reading{}, err
			}
			shoppers := float64(v.Status[202] + v.Status[503])
			return Reading{Value: rate,
				Note: fmt.Sprintf(
					"one order in a transaction; in the first round it drained %s orders/s while nobody came; then "+
						"%s shoppers/s came and %s/s were answered, %.0f%% of them that the line is full",
					number(drained.Value), number(shoppers/v.Sent.Seconds()), number(
						shoppers/v.Took.Seconds()), 100*float64(v.Status[503])/shoppers)}, nil
		},
	}, nil
}

// overloadLatency compares the 99th percentile of accepted answers at ten times the load with that at half.
func overloadLatency(ctx context.Context, l *Lab) (Trial, error) {
	var drained Reading // of the same round
	at := func(factor float64) func(context.Context) (Reading, error) {
		return func(ctx context.Context) (Reading, error) {
			v, _, err := l.rush(ctx, factor*drained.Value)
			if err != nil {
				return Reading{}, err
			}
			return Reading{Value: float64(percentile(v.Accepted, 99)) / float64(time.Millisecond)}, nil
		}
	}
	half := at(0.5)
	return Trial{
		Yardstick: func(ctx context.Context) (r Reading, err error) {
			if drained, err = l.slowDrain(ctx); err != nil {
				return r, err
			}
			return half(ctx)
		},
		Sluice: at(overloadFactor),
	}, nil
}
