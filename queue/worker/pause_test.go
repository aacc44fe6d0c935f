package worker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/queues"
	"sluice/queue"
	"sluice/queue/worker"
)

// logBook collects what is logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// watched is a running consumer with its metrics and its log.
func (b *box) watched(
	c queue.Config, h worker.Handler, bar ...func() error,
) (*worker.Consumer, *prometheus.Registry, *logBook) {
	b.T.Helper()
	reg, log := prometheus.NewRegistry(), &logBook{}
	sales := func() []string { return []string{b.Sale()} }
	options := worker.Options{
		Config: c, Pool: worker.PoolConfig{Size: 2}, Lines: b.Lines, Sales: sales, Handler: h,
		Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now, Metrics: reg,
	}
	if len(bar) > 0 {
		options.Bar = bar[0]
	}
	consumer, err := worker.New(options)
	require.NoError(b.T, err)
	return consumer, reg, log
}

// paused is the value of sluice_draining_paused for a reason.
func paused(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "sluice_draining_paused" && m.GetLabel()[0].GetValue() == reason {
				return m.GetGauge().GetValue()
			}
		}
	}
	require.Fail(t, "no such metric")
	return 0
}

// secret is an error whose text repeats a row and whose cause does not.
type secret struct{ error }

func (secret) Cause() string { return "mysql 1665:\nthe binary log" }

func TestAPauseSaysWhy(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(5)
	var well atomic.Bool
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if !well.Load() {
			return nil, secret{errors.New("ann@example.com")}
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer, reg, log := b.watched(quick(), w)
	_, stopped := consumer.Paused()
	require.False(t, stopped)
	b.run(consumer)
	require.Eventually(t, func() bool { return len(w.seen()) >= 15 }, soon, time.Millisecond, "it is tried again")
	series, err := testutil.GatherAndCount(reg, "sluice_draining_pauses_total")
	require.NoError(t, err)
	require.Equal(t, 4, series, "one for each reason, from the start")
	pause, stopped := consumer.Paused()
	require.True(t, stopped)
	require.Equal(t, worker.PausedByDatabase, pause.Reason)
	require.Equal(t, "mysql 1665: the binary log", pause.Cause)
	require.Contains(t, pause.Error(), "database: mysql 1665: the binary log (sale "+b.Sale()+", since ")
	require.EqualValues(t, 1, paused(t, reg, worker.PausedByDatabase))
	require.Zero(t, paused(t, reg, worker.PausedByRedis))
	require.Equal(t, 1, log.count("draining pauses"), "once for a cause")
	require.Zero(t, log.count("ann@example.com"))
	well.Store(true)
	b.drained()
	confirmedAll(b, order)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return !stopped }, soon, time.Millisecond)
	require.Zero(t, paused(t, reg, worker.PausedByDatabase))
	require.Equal(t, 1, log.count("draining goes on"))
	require.Empty(t, b.Attempts())
}

// Redis is away while a worker wants to claim: the pause ends when Redis answers, also when nothing waits.
func TestAPauseForRedisEndsWithIt(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	b := newBox(t, server.Addr(), queues.OpenSale())
	consumer, reg, _ := b.watched(quick(), &recorder{})
	server.Kill()
	consumer.WorkMulti([]string{b.Sale()})
	pause, stopped := consumer.Paused()
	require.True(t, stopped)
	require.Equal(t, worker.PausedByRedis, pause.Reason)
	require.EqualValues(t, 1, paused(t, reg, worker.PausedByRedis))
	server.Start()
	b.run(consumer)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return !stopped }, soon, time.Millisecond)
}

// A rebuild of the line is no store's fault.
func TestAnOutdatedBatchIsNoPause(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	b.Enqueue(2)
	consumer, _, _ := b.watched(quick(), &recorder{handle: func(context.Context, queue.Batch) ([]queue.Outcome, error) {
		return nil, queue.ErrOutdated
	}})
	consumer.Finish(b.Ctx, b.Line, []queue.Batch{b.MustClaim("first", 2)})
	_, stopped := consumer.Paused()
	require.False(t, stopped)
	b.run(consumer)()
}

// refuse answers every ticket that bad picks with the same code, and confirms the rest.
func refuse(bad func(id string) bool) func(context.Context, queue.Batch) ([]queue.Outcome, error) {
	return func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		answers := queues.Outcomes(batch, queue.OpConfirm)
		for i := range answers {
			if bad(answers[i].ID) {
				answers[i] = queue.Outcome{ID: answers[i].ID, Op: queue.OpRetry, Code: "mysql 4025"}
			}
		}
		return answers, nil
	}
}

func TestAFaultOfEveryTicketBuriesNobody(t *testing.T) {
	t.Parallel()
	for _, attempts := range []int{1, 3} {
		b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
		order := b.Enqueue(30)
		var well atomic.Bool
		w := &recorder{handle: refuse(func(string) bool { return !well.Load() })}
		c := quick()
		c.MaxAttempts = attempts
		consumer, reg, _ := b.watched(c, w)
		b.run(consumer)
		require.Eventually(t, func() bool { return paused(t, reg, worker.PausedByAll) == 1 }, soon, time.Millisecond)
		seen := len(w.seen())
		require.Eventually(t, func() bool { return len(w.seen()) > seen+5 }, soon, time.Millisecond,
			"it is tried again and again")
		require.Zero(t, b.MustView().Dead)
		well.Store(true)
		b.drained()
		confirmedAll(b, order)
		require.Zero(t, b.MustView().Dead)
		require.Empty(t, w.buried)
	}
}

func TestPoisonAmongGoodTicketsDies(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	poison := b.Enqueue(4) // they come first, and nobody has succeeded before them
	bad := func(id string) bool { return slices.Contains(poison, id) }
	consumer, reg, _ := b.watched(quick(), &recorder{handle: refuse(bad)})
	b.run(consumer)
	require.Eventually(t, func() bool { return paused(t, reg, worker.PausedByAll) == 1 }, soon, time.Millisecond,
		"nothing tells them from a fault of the store")
	var good []string
	require.Eventually(t, func() bool {
		good = append(good, b.Enqueue(1)...)
		return b.MustView().Dead == 4
	}, soon, 5*time.Millisecond, "good ones are tried beside them, and tell")
	b.drained()
	confirmedAll(b, good)
	require.ElementsMatch(t, poison, b.List("dead"))
	_, stopped := consumer.Paused()
	require.False(t, stopped)
}

// A handler that panics for everybody is no reason to give tickets up either.
func TestAPanicForEveryTicketBuriesNobody(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(8)
	var well atomic.Bool
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if !well.Load() {
			panic("nil map")
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer, reg, _ := b.watched(quick(), w)
	b.run(consumer)
	require.Eventually(t, func() bool { return paused(t, reg, worker.PausedByAll) == 1 }, soon, time.Millisecond)
	well.Store(true)
	b.drained()
	confirmedAll(b, order)
	require.Zero(t, b.MustView().Dead)
}

// Another process has done the work that failed here: nothing will ever show this one that the store is well again.
func TestAPauseEndsWithTheWork(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	b.Enqueue(1)
	consumer, _, _ := b.watched(quick(), &recorder{})
	consumer.PauseFor(worker.PausedByDatabase, b.Sale(), errors.New("connection refused"))
	require.NoError(t, consumer.Sweep(b.Ctx, []string{b.Sale()}))
	_, still := consumer.Paused()
	require.True(t, still, "a ticket waits that may fail again")
	b.SettleAll(b.MustClaim("elsewhere", 1), queue.OpConfirm)
	require.NoError(t, consumer.Sweep(b.Ctx, []string{b.Sale()}))
	_, still = consumer.Paused()
	require.False(t, still)
	b.run(consumer)() // which ends its pool
}

// A process that may not drain says so, and a store's fault before it is not over because of that.
func TestABarIsAPauseAndEndsNone(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(5)
	var away, bar atomic.Bool
	away.Store(true)
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if away.Load() {
			return nil, errors.New("connection refused")
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	consumer, reg, log := b.watched(quick(), w, func() error {
		if bar.Load() {
			return errors.New("nobody knows the schema")
		}
		return nil
	})
	b.run(consumer)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return stopped }, soon, time.Millisecond)
	bar.Store(true)
	require.Never(t, func() bool { return paused(t, reg, worker.PausedByDatabase) != 1 }, time.Second,
		5*time.Millisecond)
	require.Zero(t, log.count("draining goes on"))
	away.Store(false)
	bar.Store(false)
	b.drained()
	confirmedAll(b, order)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return !stopped }, soon, time.Millisecond)

	bar.Store(true)
	order = b.Enqueue(2)
	require.Eventually(t, func() bool { return paused(t, reg, worker.PausedByBar) == 1 }, soon, time.Millisecond)
	pause, _ := consumer.Paused()
	require.Equal(t, "nobody knows the schema", pause.Cause)
	bar.Store(false)
	b.drained()
	confirmedAll(b, order)
	require.Eventually(t, func() bool { _, stopped := consumer.Paused(); return !stopped }, soon, time.Millisecond)
}
