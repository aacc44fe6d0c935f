// Package topics is what surrounds topics and their messages in tests: a Redis, a database, receivers and readers.
package topics

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/delay/pull"
	"sluice/delay/push"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/store"
)

// Patience is how long a test waits for something that must happen.
const Patience = 30 * time.Second

// Look is how often a test looks whether it has.
const Look = 5 * time.Millisecond

// prefix begins every key of a world.
const prefix = "sluice"

// World has topics and messages, on one Redis and one database, as one process has them.
type World struct {
	Config   delay.Config
	Redis    *redis.Client
	DB       *store.DB
	Messages *message.Store
	Topics   *delay.Topics

	t    testing.TB
	mu   sync.Mutex
	dead []message.DeadReport
	lost []delay.Loss
}

// Config returns a configuration with short times that may call receivers on loopback.
func Config() delay.Config {
	cfg := delay.DefaultConfig()
	cfg.Poll, cfg.Jitter, cfg.AllowPrivate, cfg.OrderEvents = 10*time.Millisecond, 0, true, true
	return cfg
}

// New returns a world on a Redis and a database.
func New(t testing.TB, redisAddr string, database testkit.Database, cfg delay.Config) *World {
	t.Helper()
	w := &World{t: t, Config: cfg, Redis: testkit.RedisClient(t, redisAddr), DB: tables.Open(t, database)}
	w.Use(w.Redis)
	return w
}

// Embedded returns a world on the embedded Redis, for tests that do not need durability.
func Embedded(t testing.TB, edits ...func(*delay.Config)) *World {
	t.Helper()
	cfg := Config()
	for _, edit := range edits {
		edit(&cfg)
	}
	return New(t, testkit.Embedded(t).Addr(), tables.New(t, "sqlite"), cfg)
}

// Real returns a world on a real Redis.
func Real(t testing.TB, edits ...func(*delay.Config)) *World {
	t.Helper()
	cfg := Config()
	for _, edit := range edits {
		edit(&cfg)
	}
	return New(t, testkit.Redis(t).Addr(), tables.New(t, "sqlite"), cfg)
}

// Bench returns a world on a real Redis with the configuration of a shop, for benchmarks.
func Bench(b *testing.B) *World {
	b.Helper()
	cfg := delay.DefaultConfig()
	cfg.AllowPrivate = true
	return New(b, testkit.Redis(b).Addr(), tables.New(b, "sqlite"), cfg)
}

// OnBothServers runs a test on the embedded Redis and on a real one. The scripts must do the same on both.
func OnBothServers(t *testing.T, test func(t *testing.T, w *World), edits ...func(*delay.Config)) {
	t.Helper()
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, Embedded(t, edits...))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		test(t, Real(t, edits...))
	})
}

// Quiet returns a log that nobody reads.
func Quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Use lets the world keep its messages in another Redis.
func (w *World) Use(rdb redis.UniversalClient) { w.UseStores(message.Only(rdb, prefix)) }

// UseStores lets the world keep its messages in several stores. Those beside the default must be in its configuration.
func (w *World) UseStores(places map[string]message.Place) {
	w.Messages = w.Store(func(p *message.StoreParts) { p.Places = places })
	w.Topics = delay.NewTopics(w.topicsParts())
}

func (w *World) topicsParts() delay.TopicsParts {
	return delay.TopicsParts{Config: w.Config, DB: w.DB, Messages: w.Messages,
		Events: []string{"order.confirmed", "order.paid"}, OnLoss: w.reportLoss, Log: Quiet(), Now: time.Now}
}

// Store returns a store of the same messages with other parts.
func (w *World) Store(edits ...func(*message.StoreParts)) *message.Store {
	p := message.StoreParts{Config: w.Config, Places: message.Only(w.Redis, prefix), Now: time.Now}
	for _, edit := range edits {
		edit(&p)
	}
	return message.NewStore(p)
}

// OtherProcess returns the same topics as another process has them, which has just read the database.
func (w *World) OtherProcess() *World {
	w.t.Helper()
	other := &World{t: w.t, Config: w.Config, Redis: w.Redis, DB: w.DB, Messages: w.Messages}
	other.Topics = delay.NewTopics(w.topicsParts())
	require.NoError(w.t, other.Topics.Refresh(w.t.Context()))
	return other
}

// Publisher returns what adds messages in this process.
func (w *World) Publisher() *publish.Publisher { return publish.New(w.Topics, w.Messages) }

// Events returns the channel of order events. Its ledger knows every order.
func (w *World) Events(edits ...func(*publish.EventsParts)) *publish.Events {
	p := publish.EventsParts{Topics: w.Topics, Publisher: w.Publisher(), Log: Quiet(), Now: time.Now,
		Ledger: func(_ context.Context, ids []string) (map[string]notify.Facts, error) {
			known := make(map[string]notify.Facts, len(ids))
			for _, id := range ids {
				known[id] = notify.Facts{Quantity: 2, PriceCents: 9900, Currency: "CNY"}
			}
			return known, nil
		}}
	for _, edit := range edits {
		edit(&p)
	}
	return publish.NewEvents(p)
}

// Readers returns what readers of this process are served by.
func (w *World) Readers(edits ...func(*pull.ReadersParts)) *pull.Readers {
	w.t.Helper()
	p := pull.ReadersParts{Config: w.Config, Topics: w.Topics, Messages: w.Messages, OnDead: w.reportDead,
		Registry: prometheus.NewRegistry()}
	for _, edit := range edits {
		edit(&p)
	}
	return pull.NewReaders(p)
}

// Dispatcher returns a dispatcher that does not run. It ends with the test.
func (w *World) Dispatcher(edits ...func(*push.DispatcherParts)) *push.Dispatcher {
	w.t.Helper()
	p := push.DispatcherParts{Config: w.Config, Topics: w.Topics, Messages: w.Messages, OnDead: w.reportDead,
		Log: Quiet(), Now: time.Now, Registry: prometheus.NewRegistry()}
	for _, edit := range edits {
		edit(&p)
	}
	d, err := push.NewDispatcher(p)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = d.Close() }) // of one that was not run
	return d
}

// Run runs a dispatcher until the test ends or it is stopped before.
func (w *World) Run(d *push.Dispatcher) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
	w.t.Cleanup(stop)
	return stop
}

// Dispatch runs a new dispatcher until the test ends or it is stopped before.
func (w *World) Dispatch(edits ...func(*push.DispatcherParts)) (stop func()) {
	w.t.Helper()
	return w.Run(w.Dispatcher(edits...))
}

func (w *World) reportDead(_ context.Context, d message.DeadReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = append(w.dead, d)
}

// Dead returns what was reported of dead letters.
func (w *World) Dead() []message.DeadReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]message.DeadReport(nil), w.dead...)
}

// Key returns the key in Redis of what a subscription has under a name, or of what its topic has.
func (w *World) Key(sub delay.Subscription, name string) string {
	key := fmt.Sprintf("%s:delay:{%s}:", prefix, sub.Topic)
	if !sub.IsDefault() {
		key += "s:" + sub.Name + ":"
	}
	return key + name
}

// Overwrite replaces a key of a topic by one of a type that no script expects.
func (w *World) Overwrite(topic, name string) {
	w.t.Helper()
	key := w.Key(delay.OwnOf(topic), name)
	require.NoError(w.t, w.Redis.Del(w.t.Context(), key).Err())
	require.NoError(w.t, w.Redis.Set(w.t.Context(), key, "of a wrong type", 0).Err())
}

func (w *World) reportLoss(_ context.Context, l delay.Loss) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = append(w.lost, l)
}

// Lost returns what was reported of losses.
func (w *World) Lost() []delay.Loss {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]delay.Loss(nil), w.lost...)
}

// Refresh runs the loop of the topics until the test ends.
func (w *World) Refresh() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Topics.Run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
}
