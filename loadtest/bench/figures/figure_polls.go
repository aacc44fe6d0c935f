package figures

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// waitingOrders is how many orders wait while they are polled: the default cap of a line.
const waitingOrders = 10_000

// polls measures how fast the status of waiting orders is answered. Each owner polls repeatedly, so the gateway knows
// their tokens.
func polls(ctx context.Context, l *lab.Lab) (Trial, error) {
	orders, err := l.OrdersIn(benchSale.ID, l.Opt.PerRun())
	if err != nil {
		return Trial{}, err
	}
	rival, err := l.Rival(ctx, "bare")
	if err != nil {
		return Trial{}, err
	}
	load := lab.Load{Connections: 256, Length: l.Opt.Length, Again: true}
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) {
			requests, err := pollsOf(l, "polls-yardstick", make([]string, waitingOrders))
			if err != nil {
				return report.Reading{}, err
			}
			load := load
			load.Requests = requests
			d, cpu, err := rival.Measured(ctx, load, http.StatusOK)
			return lab.Reading(d, cpu), err
		},
		Sluice: func(ctx context.Context) (report.Reading, error) {
			s, err := startGateway(ctx, l, benchSale)
			if err != nil {
				return report.Reading{}, err
			}
			d, cpu, err := pollWaiting(ctx, s, rival, orders, load)
			if err != nil {
				return report.Reading{}, errors.Join(err, s.Close())
			}
			return lab.Reading(d, cpu), s.Finish(ctx)
		},
		Close: rival.Stop,
	}, nil
}

func pollWaiting(ctx context.Context, s *lab.System, rival *lab.Rival, orders lab.Requests, load lab.Load) (lab.Drive,
	map[string]time.Duration, error) {
	orders.Count = waitingOrders
	answers, err := s.Fill(ctx, s.Nodes[0], orders)
	if err != nil {
		return lab.Drive{}, nil, err
	}
	if load.Requests, err = pollsOf(s.Lab, "polls", answers); err != nil {
		return lab.Drive{}, nil, err
	}
	first, err := load.Requests.At(0)
	if err != nil {
		return lab.Drive{}, nil, err
	}
	ours, err := lab.Ask(ctx, s.Nodes[0].HTTP, first)
	if err != nil {
		return lab.Drive{}, nil, err
	}
	var said struct{ Status string }
	if err := json.Unmarshal(ours.Body, &said); err != nil || said.Status != "queued" {
		return lab.Drive{}, nil, lab.Refuse("a waiting order's status was answered with %d: %s", ours.Status, ours.Body)
	}
	if err := sameAnswer(ctx, rival.Addr, first, ours); err != nil {
		return lab.Drive{}, nil, err
	}
	return s.Measured(ctx, s.Nodes[0], load, lab.Expected{Route: orderRoute, Status: http.StatusOK})
}

// pollsOf writes a poll for each order; the path of shopper n's is paths[n]. An empty path means any order.
func pollsOf(l *lab.Lab, name string, paths []string) (lab.Requests, error) {
	const anyOrder = "/v1/sales/bench/orders/00000000-0000-0000-0000-000000000000"
	return l.Requests(name, len(paths), func(n int, now time.Time) string {
		if paths[n] == "" {
			return lab.PollRequest(anyOrder, n, now)
		}
		return lab.PollRequest(paths[n], n, now)
	})
}
