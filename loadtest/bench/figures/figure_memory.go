package figures

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// redisMemory measures what one waiting order adds to Redis' used_memory.
func redisMemory(_ context.Context, l *lab.Lab) (Trial, error) {
	size := max(l.Opt.Scaled(100_000), 20_000)
	orders, err := l.OrdersIn(benchSale.ID, max(l.Opt.PerRun(), size))
	if err != nil {
		return Trial{}, err
	}
	orders.Count = size
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		s, err := startGateway(ctx, l, benchSale)
		if err != nil {
			return report.Reading{}, err
		}
		before, err := usedMemory(ctx, s)
		if err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		_, err = s.Fill(ctx, s.Nodes[0], orders)
		after, asked := usedMemory(ctx, s)
		if err = errors.Join(err, asked); err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		return report.Reading{Value: (after - before) / float64(size),
			Note: fmt.Sprintf("with %s orders waiting", report.Number(float64(size)))}, s.Finish(ctx)
	}}, nil
}

// forgetOrders empties the line of the Lua yardstick in the system's Redis: its users and its list.
func forgetOrders(ctx context.Context, s *lab.System) error {
	client := redis.NewClient(&redis.Options{Addr: s.Redis.Addr()})
	defer client.Close()
	if err := client.Del(ctx, "holders", "line").Err(); err != nil {
		return fmt.Errorf("empty the yardstick's line: %w", err)
	}
	return nil
}

func usedMemory(ctx context.Context, s *lab.System) (float64, error) {
	client := redis.NewClient(&redis.Options{Addr: s.Redis.Addr()})
	defer client.Close()
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, errors.New("redis tells no used_memory")
}

const (
	openConnections = 10_000
	openAtATime     = 8
	idleFor         = 3 * time.Second
)

// connectionMemory measures a gateway's RAM while shoppers who have ordered keep their connections open.
func connectionMemory(_ context.Context, l *lab.Lab) (Trial, error) {
	orders, err := l.OrdersIn(benchSale.ID, max(l.Opt.PerRun(), openConnections))
	if err != nil {
		return Trial{}, err
	}
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		s, err := startGateway(ctx, l, benchSale)
		if err != nil {
			return report.Reading{}, err
		}
		bytes, err := holdOpen(ctx, s.Nodes[0], orders)
		if err != nil {
			return report.Reading{}, errors.Join(err, s.Close())
		}
		return report.Reading{Value: bytes / 1e6}, s.Finish(ctx)
	}}, nil
}

// holdOpen orders once on each connection, keeps all open and returns the gateway's memory.
func holdOpen(ctx context.Context, n *lab.Node, orders lab.Requests) (float64, error) {
	open := make([]lab.Caller, openConnections)
	defer func() {
		for i := range open {
			open[i].Close()
		}
	}()
	work, working := errgroup.WithContext(ctx)
	for first := range openAtATime {
		work.Go(func() error {
			for i := first; i < len(open); i += openAtATime {
				open[i].Addr = n.HTTP
				if err := orderOn(working, &open[i], orders, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(idleFor):
	}
	bytes, err := machine.ResidentBytes(n.PID())
	if err != nil {
		return 0, err
	}
	// Connections that the gateway has closed would falsify the result. So each repeats its order to show that it is
	// open.
	for i := 0; i < len(open); i += 100 {
		if err := orderOn(ctx, &open[i], orders, i); err != nil {
			return 0, fmt.Errorf("connection %d after the rest: %w", i, err)
		}
	}
	return bytes, nil
}

func orderOn(ctx context.Context, c *lab.Caller, orders lab.Requests, i int) error {
	request, err := orders.At(i)
	if err != nil {
		return err
	}
	a, err := c.Do(ctx, request)
	if err == nil && a.Status != 202 {
		err = lab.Refuse("order %d was answered %d: %s", i, a.Status, a.Body)
	}
	return err
}
