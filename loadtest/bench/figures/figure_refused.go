package figures

import (
	"context"
	"errors"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// After one admitted order both sales refuse every shopper: the first is sold out, the second's line is full.
var (
	soldOut = lab.Sale{ID: "sold", Stock: 1, Cap: hugeCap}
	full    = lab.Sale{ID: "full", Stock: hugeStock, Cap: 1}
)

// refused measures how fast new shoppers are refused, for both reasons. The slower one counts.
func refused(ctx context.Context, l *lab.Lab) (Trial, error) {
	var load [2]lab.Load
	for i, sale := range []lab.Sale{soldOut, full} {
		requests, err := l.OrdersIn(sale.ID, l.Opt.PerRun())
		if err != nil {
			return Trial{}, err
		}
		// The first request is the admitted one.
		load[i] = lab.Load{Connections: 256, Length: l.Opt.Length, Requests: requests, First: 1}
	}
	rival, err := l.Rival(ctx, "static")
	if err != nil {
		return Trial{}, err
	}
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) {
			d, cpu, err := rival.Measured(ctx, load[0], 409)
			return lab.Reading(d, cpu), err
		},
		Sluice: func(ctx context.Context) (report.Reading, error) {
			s, err := startGateway(ctx, l, soldOut, full)
			if err != nil {
				return report.Reading{}, err
			}
			r, err := refusals(ctx, s, rival, load)
			if err != nil {
				return r, errors.Join(err, s.Close())
			}
			return r, s.Finish(ctx)
		},
		Close: rival.Stop,
	}, nil
}

func refusals(ctx context.Context, s *lab.System, rival *lab.Rival, load [2]lab.Load) (report.Reading, error) {
	wants := [2]lab.Expected{
		{Route: lab.OrdersRoute, Status: 409, Code: "sold_out"},
		{Route: lab.OrdersRoute, Status: 503, Code: "queue_full"},
	}
	var lower report.Reading
	for i, want := range wants {
		if err := takeLast(ctx, s, rival, load[i].Requests, want); err != nil {
			return lower, err
		}
		d, cpu, err := s.Measured(ctx, s.Nodes[0], load[i], want)
		if err != nil {
			return lower, err
		}
		if r := lab.Reading(d, cpu); i == 0 || r.Value < lower.Value {
			lower = r
		}
	}
	return lower, nil
}

// takeLast places the order after which all others are refused, and checks one refusal in full.
func takeLast(ctx context.Context, s *lab.System, rival *lab.Rival, requests lab.Requests, want lab.Expected) error {
	for n, status := range []int{202, want.Status} {
		request, err := requests.At(n)
		if err != nil {
			return err
		}
		a, err := lab.Ask(ctx, s.Nodes[0].HTTP, request)
		if err != nil {
			return err
		}
		if a.Status != status {
			return lab.Refuse("order %d answered %d, want %d: %s", n, a.Status, status, a.Body)
		}
		if n == 1 && want.Status == 409 {
			return sameAnswer(ctx, rival.Addr, request, a)
		}
	}
	return nil
}
