package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// waitingOrders fill the line while they are polled: as many as a line holds by default.
const waitingOrders = 10_000

// polls measures how fast owners learn where their waiting orders are. Each
// owner asks again and again, as shoppers do, so their tokens are known to the gateway.
func polls(ctx context.Context, l *Lab) (Trial, error) {
	orders, err := l.ordersIn(benchSale.ID, l.opt.perRun())
	if err != nil {
		return Trial{}, err
	}
	rival, err := l.rival(ctx, "bare")
	if err != nil {
		return Trial{}, err
	}
	load := Load{Connections: 256, Length: l.opt.Length, Again: true}
	return Trial{
		Yardstick: func(ctx context.Context) (Reading, error) {
			requests, err := l.pollsOf("polls-yardstick", make([]string, waitingOrders))
			if err != nil {
				return Reading{}, err
			}
			load := load
			load.Requests = requests
			d, cpu, err := rival.measured(ctx, load, http.StatusOK)
			return reading(d, cpu), err
		},
		Sluice: func(ctx context.Context) (Reading, error) {
			s, err := l.gateway(ctx, benchSale)
			if err != nil {
				return Reading{}, err
			}
			d, cpu, err := s.pollWaiting(ctx, rival, orders, load)
			if err != nil {
				return Reading{}, errors.Join(err, s.close())
			}
			return reading(d, cpu), s.finish(ctx)
		},
		Close: rival.stop,
	}, nil
}

func (s *System) pollWaiting(ctx context.Context, rival *Rival, orders Requests, load Load) (Drive,
	map[string]time.Duration, error) {
	orders.Count = waitingOrders
	answers, err := s.fill(ctx, s.nodes[0], orders)
	if err != nil {
		return Drive{}, nil, err
	}
	if load.Requests, err = s.lab.pollsOf("polls", answers); err != nil {
		return Drive{}, nil, err
	}
	first, err := load.Requests.At(0)
	if err != nil {
		return Drive{}, nil, err
	}
	ours, err := ask(ctx, s.nodes[0].HTTP, first)
	if err != nil {
		return Drive{}, nil, err
	}
	var said struct{ Status string }
	if err := json.Unmarshal(ours.Body, &said); err != nil || said.Status != "queued" {
		return Drive{}, nil, refuse("a waiting order's status was answered with %d: %s", ours.Status, ours.Body)
	}
	if err := sameAnswer(ctx, rival.addr, first, ours); err != nil {
		return Drive{}, nil, err
	}
	return s.measured(ctx, s.nodes[0], load, Expected{Route: orderRoute, Status: http.StatusOK})
}

// pollsOf writes a poll for each order; shopper n's is at paths[n]. An empty path stands for any order.
func (l *Lab) pollsOf(name string, paths []string) (Requests, error) {
	const any = "/v1/sales/bench/orders/00000000-0000-0000-0000-000000000000"
	return l.requests(name, len(paths), func(n int, now time.Time) string {
		if paths[n] == "" {
			return pollRequest(any, n, now)
		}
		return pollRequest(paths[n], n, now)
	})
}
