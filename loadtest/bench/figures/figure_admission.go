package figures

import (
	"context"
	"errors"
	"maps"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

const (
	orderRoute = "/v1/sales/:sale/orders/:id"
	hugeStock  = 100_000_000
	hugeCap    = 10_000_000
)

// benchSale is a sale with room for all requests of any measurement.
var benchSale = lab.Sale{ID: "bench", Stock: hugeStock, Cap: hugeCap}

// admission measures how fast a gateway admits orders. No worker runs, because draining, and both together, are other
// figures. Every request is a new shopper's, with a token that the gateway has never seen.
func admission(connections int) func(context.Context, *lab.Lab) (Trial, error) {
	return func(ctx context.Context, l *lab.Lab) (Trial, error) {
		return orderTrial(ctx, l, connections, orderRival{args: []string{"bare"}}, lab.Drive.Rate)
	}
}

// loneLatency measures the median answer time of one shopper at a time on a quiet system.
func loneLatency(ctx context.Context, l *lab.Lab) (Trial, error) {
	stores, err := l.System(ctx, lab.Setup{Driver: "sqlite"}) // only its Redis is used
	if err != nil {
		return Trial{}, err
	}
	trial, err := orderTrial(ctx, l, 1, orderRival{args: []string{"lua", "--redis", stores.Redis.Addr()},
		pids: map[string][]int{"redis": {stores.Redis.PID()}}}, func(d lab.Drive) float64 { return d.P50 })
	if err != nil {
		return trial, errors.Join(err, stores.Close())
	}
	ask, end := trial.Yardstick, trial.Close
	trial.Yardstick = func(ctx context.Context) (report.Reading, error) {
		// The shoppers of the previous round would be refused, because of their limit.
		if err := forgetOrders(ctx, stores); err != nil {
			return report.Reading{}, err
		}
		return ask(ctx)
	}
	trial.Close = func() error { return errors.Join(end(), stores.Close()) }
	return trial, nil
}

// orderRival is a yardstick that admits orders: its arguments, and the processes of its store.
type orderRival struct {
	args []string
	pids map[string][]int
}

// orderTrial sends orders to a yardstick and to a gateway. value extracts the reading from wrk's result.
func orderTrial(ctx context.Context, l *lab.Lab, connections int, yardstick orderRival,
	value func(lab.Drive) float64) (Trial, error) {
	requests, err := l.OrdersIn(benchSale.ID, l.Opt.PerRun())
	if err != nil {
		return Trial{}, err
	}
	load := lab.Load{Connections: connections, Length: l.Opt.Length, Requests: requests}
	rival, err := l.Rival(ctx, yardstick.args...)
	if err != nil {
		return Trial{}, err
	}
	maps.Copy(rival.PIDs, yardstick.pids)
	if err := checkComparable(ctx, l, rival.Addr, requests); err != nil {
		return Trial{}, errors.Join(err, rival.Stop())
	}
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) {
			d, cpu, err := rival.Measured(ctx, load, 202)
			r := lab.Reading(d, cpu)
			r.Value = value(d)
			return r, err
		},
		Sluice: func(ctx context.Context) (report.Reading, error) {
			s, err := startGateway(ctx, l, benchSale)
			if err != nil {
				return report.Reading{}, err
			}
			d, cpu, err := s.Measured(ctx, s.Nodes[0], load, lab.Expected{Route: lab.OrdersRoute, Status: 202})
			if err != nil {
				return report.Reading{}, errors.Join(err, s.Close())
			}
			r := lab.Reading(d, cpu)
			r.Value = value(d)
			return r, s.Finish(ctx)
		},
		Close: rival.Stop,
	}, nil
}

// startGateway starts a gateway without workers, with sales. Its database is idle.
func startGateway(ctx context.Context, l *lab.Lab, sales ...lab.Sale) (*lab.System, error) {
	return startOn(ctx, l, lab.Setup{Driver: "sqlite"}, "gateway", sales...)
}

// allRoles are the roles that "sluice serve" starts in one process.
const allRoles = "gateway,worker,notifier"

// startOn starts one process in some roles, with sales.
func startOn(ctx context.Context, l *lab.Lab, setup lab.Setup, roles string, sales ...lab.Sale) (*lab.System, error) {
	s, err := l.System(ctx, setup)
	if err != nil {
		return nil, err
	}
	n, err := s.Serve(ctx, roles)
	for _, sale := range sales {
		if err == nil {
			err = n.Open(ctx, sale)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
