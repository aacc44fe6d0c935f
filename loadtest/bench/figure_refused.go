package main

import (
	"context"
	"errors"
)

// Both sales refuse every shopper of the measurement once one order is taken:
// of the first the last unit, of the second the only place in line.
var (
	soldOut = Sale{ID: "sold", Stock: 1, Cap: hugeCap}
	full    = Sale{ID: "full", Stock: hugeStock, Cap: 1}
)

// refused measures how fast shoppers who hold nothing are turned away. Each
// of the two reasons is measured, and the slower one counts.
func refused(ctx context.Context, l *Lab) (Trial, error) {
	var load [2]Load
	for i, sale := range []Sale{soldOut, full} {
		requests, err := l.ordersIn(sale.ID, l.opt.perRun())
		if err != nil {
			return Trial{}, err
		}
		// The first request is the one that is taken.
		load[i] = Load{Connections: 256, Length: l.opt.Length, Requests: requests, First: 1}
	}
	rival, err := l.rival(ctx, "static")
	if err != nil {
		return Trial{}, err
	}
	return Trial{
		Yardstick: func(ctx context.Context) (Reading, error) {
			d, cpu, err := rival.measured(ctx, load[0], 409)
			return reading(d, cpu), err
		},
		Sluice: func(ctx context.Context) (Reading, error) {
			s, err := l.gateway(ctx, soldOut, full)
			if err != nil {
				return Reading{}, err
			}
			r, err := refusals(ctx, s, rival, load)
			if err != nil {
				return r, errors.Join(err, s.close())
			}
			return r, s.finish(ctx)
		},
		Close: rival.stop,
	}, nil
}

func refusals(ctx context.Context, s *System, rival *Rival, load [2]Load) (Reading, error) {
	wants := [2]Expected{
		{Route: ordersRoute, Status: 409, Code: "sold_out"},
		{Route: ordersRoute, Status: 503, Code: "queue_full"},
	}
	var lower Reading
	for i, want := range wants {
		if err := s.takeLast(ctx, rival, load[i].Requests, want); err != nil {
			return lower, err
		}
		d, cpu, err := s.measured(ctx, s.nodes[0], load[i], want)
		if err != nil {
			return lower, err
		}
		if r := reading(d, cpu); i == 0 || r.Value < lower.Value {
			lower = r
		}
	}
	return lower, nil
}

// takeLast places the order after which all others are refused, and looks at one refusal in full.
func (s *System) takeLast(ctx context.Context, rival *Rival, requests Requests, want Expected) error {
	for n, status := range []int{202, want.Status} {
		request, err := requests.At(n)
		if err != nil {
			return err
		}
		a, err := ask(ctx, s.nodes[0].HTTP, request)
		if err != nil {
			return err
		}
		if a.Status != status {
			return refuse("order %d answered %d, want %d: %s", n, a.Status, status, a.Body)
		}
		if n == 1 && want.Status == 409 {
			return sameAnswer(ctx, rival.addr, request, a)
		}
	}
	return nil
}
