package main

import (
	"context"
	"errors"
	"maps"
)

const (
	ordersRoute = "/v1/sales/:sale/orders"
	orderRoute  = "/v1/sales/:sale/orders/:id"
	hugeStock   = 100_000_000
	hugeCap     = 10_000_000
)

// benchSale has room for all that any measurement sends.
var benchSale = Sale{ID: "bench", Stock: hugeStock, Cap: hugeCap}

// admission measures how fast a gateway takes orders into a line. No worker
// runs: draining is a figure of its own, and so is both at once. Every request
// is a new shopper's, with a token that the gateway has never seen.
func admission(connections int) func(context.Context, *Lab) (Trial, error) {
	return func(ctx context.Context, l *Lab) (Trial, error) {
		return orderTrial(ctx, l, connections, []string{"bare"}, nil, func(d Drive) float64 { return d.Rate() })
	}
}

// loneLatency is the median answer time of one shopper at a time on a quiet system.
func loneLatency(ctx context.Context, l *Lab) (Trial, error) {
	stores, err := l.system(ctx, Setup{Driver: "sqlite"}) // only its Redis is used
	if err != nil {
		return Trial{}, err
	}
	trial, err := orderTrial(ctx, l, 1, []string{"lua", "--redis", stores.redis.Addr()},
		map[string][]int{"redis": {stores.redis.PID()}}, func(d Drive) float64 { return d.P50 })
	if err != nil {
		return trial, errors.Join(err, stores.close())
	}
	ask, end := trial.Yardstick, trial.Close
	trial.Yardstick = func(ctx context.Context) (Reading, error) {
		// The shoppers of the round before would be refused: they hold their limit.
		if err := stores.forget(ctx); err != nil {
			return Reading{}, err
		}
		return ask(ctx)
	}
	trial.Close = func() error { return errors.Join(end(), stores.close()) }
	return trial, nil
}

// orderTrial sends orders to a yardstick, which may use a store, and to a gateway and takes value of what wrk saw.
func orderTrial(ctx context.Context, l *Lab, connections int, yardstick []string, store map[string][]int,
	value func(Drive) float64) (Trial, error) {
	requests, err := l.ordersIn(benchSale.ID, l.opt.perRun())
	if err != nil {
		return Trial{}, err
	}
	load := Load{Connections: connections, Length: l.opt.Length, Requests: requests}
	rival, err := l.rival(ctx, yardstick...)
	if err != nil {
		return Trial{}, err
	}
	maps.Copy(rival.pids, store)
	if err := l.comparable(ctx, rival.addr, requests); err != nil {
		return Trial{}, errors.Join(err, rival.stop())
	}
	return Trial{
		Yardstick: func(ctx context.Context) (Reading, error) {
			d, cpu, err := rival.measured(ctx, load, 202)
			r := reading(d, cpu)
			r.Value = value(d)
			return r, err
		},
		Sluice: func(ctx context.Context) (Reading, error) {
			s, err := l.gateway(ctx, benchSale)
			if err != nil {
				return Reading{}, err
			}
			d, cpu, err := s.measured(ctx, s.nodes[0], load, Expected{Route: ordersRoute, Status: 202})
			if err != nil {
				return Reading{}, errors.Join(err, s.close())
			}
			r := reading(d, cpu)
			r.Value = value(d)
			return r, s.finish(ctx)
		},
		Close: rival.stop,
	}, nil
}

// gateway starts a gateway without workers, with sales. Its database has nothing to do.
func (l *Lab) gateway(ctx context.Context, sales ...Sale) (*System, error) {
	return l.gatewayOn(ctx, Setup{Driver: "sqlite"}, "gateway", sales...)
}

// allRoles in one process are what "sluice serve" starts.
const allRoles = "gateway,worker,notifier"

// gatewayOn starts one process in some roles, with sales.
func (l *Lab) gatewayOn(ctx context.Context, setup Setup, roles string, sales ...Sale) (*System, error) {
	s, err := l.system(ctx, setup)
	if err != nil {
		return nil, err
	}
	n, err := s.serve(ctx, roles)
	for _, sale := range sales {
		if err == nil {
			err = n.open(ctx, sale)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}
