package lab

import (
	"context"
	"time"

	"sluice/loadtest/bench/machine"
)

// Measured drives one process of Sluice with wrk, after a warm-up, and checks every answer.
func (s *System) Measured(ctx context.Context, n *Node, load Load, want Expected) (Drive, map[string]time.Duration,
	error) {
	load.Addr = n.HTTP
	before, err := n.Metrics(ctx)
	if err != nil {
		return Drive{}, nil, err
	}
	warm, err := s.Lab.warm(ctx, &load)
	if err != nil {
		return Drive{}, nil, err
	}
	clock := machine.StartCPU(s.PIDs())
	d, err := s.Lab.Wrk(ctx, load)
	if err != nil {
		return d, nil, err
	}
	cpu := clock.Used()
	served := machine.Sum(cpu)
	cpu["generator"] = d.CPU
	after, err := n.SettledMetrics(ctx)
	if err != nil {
		return d, nil, err
	}
	if err := d.Check(want.Status, served); err != nil {
		return d, nil, err
	}
	return d, cpu, CheckCounts(before, after, want, warm.Requests+d.Requests, 2*(load.Connections+s.Lab.Opt.Threads))
}

// warm runs the load for a moment and advances it to requests that were not sent yet.
func (l *Lab) warm(ctx context.Context, load *Load) (Drive, error) {
	short := *load
	short.Length = warmUp
	if !load.Again {
		short.Requests.Count = load.First + (load.Requests.Count-load.First)*int(warmUp)/int(warmUp+load.Length)
		load.First = short.Requests.Count
	}
	return l.Wrk(ctx, short)
}

// SettledMetrics reads the counters when they have stopped changing, because wrk ends in the middle of requests.
func (n *Node) SettledMetrics(ctx context.Context) (Metrics, error) {
	last, err := n.Metrics(ctx)
	for range 100 {
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		now, err := n.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		const answers = "http_server_request_duration_seconds_count"
		if now.Sum(answers) == last.Sum(answers) {
			return now, nil
		}
		last = now
	}
	return nil, Refuse("the gateway still answers 5 s after the generator has stopped")
}
