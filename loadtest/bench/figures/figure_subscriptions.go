package figures

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// fanOut is how many subscriptions an event goes to.
const fanOut = 10

// pulled measures how fast ten readers receive and acknowledge a backlog over HTTP, a hundred messages in a call.
func pulled(_ context.Context, l *lab.Lab) (Trial, error) {
	size := max(l.Opt.Scaled(50_000), 10_000)
	return Trial{Sluice: func(ctx context.Context) (report.Reading, error) {
		s, err := startReadable(ctx, l)
		if err != nil {
			return report.Reading{}, err
		}
		r, err := pullAll(ctx, s, size)
		if err != nil {
			return r, errors.Join(err, s.Close())
		}
		return r, s.Finish(ctx)
	}}, nil
}

func pullAll(ctx context.Context, s *lab.System, size int) (report.Reading, error) {
	n, name := s.Nodes[0], "readers"
	if err := subscribe(ctx, n, name, nil); err != nil {
		return report.Reading{}, err
	}
	due := time.Now()
	if err := addMessages(ctx, n, 0, size, func(int) time.Time { return due }); err != nil {
		return report.Reading{}, err
	}
	clock, began := machine.StartCPU(s.PIDs()), time.Now()
	if err := newReaders(n, name, size).run(ctx); err != nil {
		return report.Reading{}, err
	}
	took := time.Since(began)
	return report.Reading{Value: float64(size) / took.Seconds(), Work: float64(size), CPU: clock.Used(),
		Note: fmt.Sprintf("%d readers, %d messages in a call", readerCount, readerBatch)}, nil
}

// subscribe adds a subscription that is pulled, or with a URL in more one that is pushed.
func subscribe(ctx context.Context, n *lab.Node, name string, more map[string]any) error {
	body := map[string]any{"name": name, "topic": delayTopic, "kind": "pull"}
	for key, value := range more {
		body[key] = value
	}
	return n.Admin(ctx, "POST", "/subscriptions", body, nil)
}

// spread measures the CPU time of an event that goes to ten subscriptions, which are pushed. The yardstick publishes as
// many events to one subscription, and delivers ten times as many there.
func spread(_ context.Context, l *lab.Lab) (Trial, error) {
	events := max(l.Opt.Scaled(5_000), 1_000)
	return Trial{
		Yardstick: func(ctx context.Context) (report.Reading, error) { return spreadCost(ctx, l, events, 1) },
		Sluice: func(ctx context.Context) (report.Reading, error) {
			r, err := spreadCost(ctx, l, events, fanOut)
			r.Note = fmt.Sprintf("%s events", report.Number(float64(events)))
			return r, err
		},
	}, nil
}

// spreadCost returns the CPU time in µs of an event to so many subscriptions. For one it is that of an event published,
// and of ten delivered.
func spreadCost(ctx context.Context, l *lab.Lab, events, subscriptions int) (report.Reading, error) {
	r, err := receive()
	if err != nil {
		return report.Reading{}, err
	}
	defer r.Close()
	r.perSubscription = true
	s, err := startDelayed(ctx, l, r.url)
	if err != nil {
		return report.Reading{}, err
	}
	reading, err := spreadOver(ctx, s, r, events, subscriptions)
	if err != nil {
		return reading, errors.Join(err, s.Close())
	}
	return reading, s.Finish(ctx)
}

func spreadOver(ctx context.Context, s *lab.System, r *receiver, events, subscriptions int) (report.Reading, error) {
	n := s.Nodes[0]
	for i := 1; i < subscriptions; i++ {
		if err := subscribe(ctx, n, fmt.Sprintf("s%02d", i), map[string]any{"kind": "push", "url": r.url}); err != nil {
			return report.Reading{}, err
		}
	}
	messages := events * fanOut / subscriptions
	// Far enough to have added all, so that publishing and delivery are measured apart.
	due := time.Now().Add(fireLead + time.Duration(messages)*time.Second/addPerTick*time.Duration(subscriptions))
	publishing := machine.StartCPU(s.PIDs())
	if err := addMessages(ctx, n, 0, messages, func(int) time.Time { return due }); err != nil {
		return report.Reading{}, err
	}
	published := publishing.Used()
	if time.Now().After(due) {
		return report.Reading{}, lab.Refuse("the messages were due before all were added: too slow to time")
	}
	delivering := machine.StartCPU(s.PIDs())
	if _, err := r.await(ctx, events*fanOut); err != nil {
		return report.Reading{}, err
	}
	used := delivering.Used()
	for part, spent := range published { // of the yardstick's messages, a tenth counts as published
		used[part] += spent * time.Duration(events) / time.Duration(messages)
	}
	reading := report.Reading{Work: float64(events), CPU: used}
	reading.Value = float64(machine.Sum(used).Microseconds()) / reading.Work
	return reading, nil
}
