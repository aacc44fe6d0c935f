package delay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store"
)

// patience is how long a test waits for something that must happen.
const patience = 15 * time.Second

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// world has topics and messages, on one Redis and one database.
type world struct {
	t        testing.TB
	cfg      Config
	rdb      *redis.Client
	db       *store.DB
	messages *Store
	topics   *Topics
	reg      *prometheus.Registry

	mu          sync.Mutex
	deadReports []DeadReport
}

// testConfig returns a configuration with short times that may call receivers on loopback.
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Poll, cfg.Jitter, cfg.AllowPrivate, cfg.OrderEvents = 10*time.Millisecond, 0, true, true
	return cfg
}

func newWorld(t testing.TB, redisAddr string, database testkit.Database, cfg Config) *world {
	t.Helper()
	w := &world{t: t, cfg: cfg, rdb: testkit.RedisClient(t, redisAddr), reg: prometheus.NewRegistry()}
	w.db = tables.Open(t, database)
	w.messages = NewStore(StoreParts{Config: cfg, Redis: w.rdb, Prefix: "sluice",
		Durable: func() error { return nil }, Now: time.Now})
	w.topics = NewTopics(TopicsParts{Config: cfg, DB: w.db, Messages: w.messages,
		Events: []string{"order.confirmed", "order.paid"}, Log: quiet(), Now: time.Now})
	return w
}

// embeddedWorld returns a world on the embedded Redis, for tests that do not need durability.
func embeddedWorld(t testing.TB, edits ...func(*Config)) *world {
	t.Helper()
	cfg := testConfig()
	for _, edit := range edits {
		edit(&cfg)
	}
	return newWorld(t, testkit.Embedded(t).Addr(), tables.New(t, "sqlite"), cfg)
}

func (w *world) reportDead(_ context.Context, d DeadReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadReports = append(w.deadReports, d)
}

func (w *world) reported() []DeadReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]DeadReport(nil), w.deadReports...)
}

// topic creates a topic that calls url and retries after 10, 30, 50 … ms.
func (w *world) topic(name, url string, edits ...func(*Change)) Topic {
	w.t.Helper()
	ch := Change{URL: &url, RetryUnitMS: new(int64(10))}
	for _, edit := range edits {
		edit(&ch)
	}
	t, err := w.topics.Create(w.t.Context(), name, ch, "ann", "")
	require.NoError(w.t, err)
	return t
}

// subscribe adds a subscription to a topic: one that is pulled from, unless ch has a URL.
func (w *world) subscribe(topic, name string, edits ...func(*SubscriptionChange)) Subscription {
	w.t.Helper()
	ch := SubscriptionChange{RetryUnitMS: new(int64(10))}
	for _, edit := range edits {
		edit(&ch)
	}
	sub, err := w.topics.CreateSubscription(w.t.Context(), NewSubscription{Name: name, Topic: topic}, ch, "ann", "")
	require.NoError(w.t, err)
	return sub
}

// otherProcess returns the same topics as another process has them, which has just read the database.
func (w *world) otherProcess() *world {
	w.t.Helper()
	other := &world{t: w.t, cfg: w.cfg, rdb: w.rdb, db: w.db, messages: w.messages, reg: prometheus.NewRegistry()}
	other.topics = NewTopics(TopicsParts{Config: w.cfg, DB: w.db, Messages: w.messages,
		Events: []string{"order.confirmed", "order.paid"}, Log: quiet(), Now: time.Now})
	require.NoError(w.t, other.topics.Refresh(w.t.Context()))
	return other
}

// readers returns what readers of this process are served by.
func (w *world) readers() *Readers {
	w.t.Helper()
	return NewReaders(ReadersParts{Topics: w.topics, Messages: w.messages, OnDead: w.reportDead,
		Registry: prometheus.NewRegistry()})
}

// receive returns the messages that a subscription has due, in the order of their ids.
func (w *world) receive(r *Readers, name string, wait time.Duration) []Leased {
	w.t.Helper()
	got, err := r.Receive(w.t.Context(), name, 100, wait)
	require.NoError(w.t, err)
	slices.SortFunc(got, func(a, b Leased) int { return strings.Compare(a.ID, b.ID) })
	return got
}

// endLease lets the lease of a message end.
func (w *world) endLease(sub Subscription, id string) {
	w.t.Helper()
	require.NoError(w.t, w.rdb.ZAdd(w.t.Context(), w.messages.keysOf(sub).firing, redis.Z{Score: 1, Member: id}).Err())
	found, err := w.messages.reclaim(w.t.Context(), sub)
	require.NoError(w.t, err)
	require.EqualValues(w.t, 1, found.again+found.dead)
}

func (w *world) dispatcher() *Dispatcher {
	w.t.Helper()
	f, err := NewDispatcher(DispatcherParts{Config: w.cfg, Topics: w.topics, Messages: w.messages, OnDead: w.reportDead,
		Log: quiet(), Now: time.Now, Registry: prometheus.NewRegistry()})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = f.Close() }) // of one that was not run
	return f
}

// startDispatcher runs a dispatcher until the test ends or it is stopped before.
func (w *world) startDispatcher() (f *Dispatcher, stop func()) {
	w.t.Helper()
	f = w.dispatcher()
	return f, w.run(f)
}

func (w *world) run(f *Dispatcher) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(w.t, <-done)
		})
	}
	w.t.Cleanup(stop)
	return stop
}

// add adds messages to all subscriptions of a topic, or where no topic was made, to the topic's own.
func (w *world) add(topic string, messages ...New) []time.Time {
	w.t.Helper()
	due, err := w.adder(topic)(w.t.Context(), topic, messages)
	require.NoError(w.t, err)
	return due
}

func (w *world) adder(topic string) func(ctx context.Context, topic string, messages []New) ([]time.Time, error) {
	if len(w.topics.Of(topic)) > 0 {
		return w.publisher().Add
	}
	return w.messages.Add
}

func (w *world) publisher() *Publisher { return NewPublisher(w.topics, w.messages) }

// Add adds messages to a topic's own subscription, whether the topic was made or not.
func (s *Store) Add(ctx context.Context, topic string, messages []New) ([]time.Time, error) {
	if err := checkNew(messages, s.cfg, s.now()); err != nil {
		return nil, err
	}
	own, err := s.own(ctx, topic)
	if err != nil {
		return nil, err
	}
	return s.add(ctx, addition{topic, own.version, []Subscription{own}, messages})
}

// own is a topic's own subscription with the version that Redis knows, whether the topic was made or not.
func (s *Store) own(ctx context.Context, topic string) (Subscription, error) {
	own := ownOf(topic)
	own.Kind, own.Retries, own.RetryUnitMS, own.version = Push, 10, 10, 1
	key := s.topicKeys(topic).version
	if err := s.rdb.SetNX(ctx, key, 1, 0).Err(); err != nil {
		return own, err
	}
	version, err := s.rdb.Get(ctx, key).Int64()
	own.version = version
	return own, err
}

func (w *world) own(topic string) Subscription {
	w.t.Helper()
	own, err := w.messages.own(w.t.Context(), topic)
	require.NoError(w.t, err)
	return own
}

func (w *world) show(topic, id string) Message {
	w.t.Helper()
	m, err := w.messages.Show(w.t.Context(), ownOf(topic), id)
	require.NoError(w.t, err)
	return m
}

// waitForState waits until a message is in a state.
func (w *world) waitForState(topic, id, state string) Message {
	w.t.Helper()
	var m Message
	require.Eventually(w.t, func() bool {
		m = w.show(topic, id)
		return m.State == state
	}, patience, 2*time.Millisecond, "message %s never became %s, it is %+v", id, state, &m)
	return m
}

func msg(id string, delay time.Duration) New {
	return New{ID: id, Delay: delay, Body: fmt.Appendf(nil, `{"n":%q}`, id)}
}

// receivedCall is one call that a receiver got.
type receivedCall struct {
	method string
	header http.Header
	body   string
	at     time.Time
}

// receiver is an HTTP server that remembers every call.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []receivedCall
}

func newReceiver(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.calls = append(r.calls, receivedCall{req.Method, req.Header.Clone(), string(body), time.Now()})
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *receiver) allCalls() []receivedCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]receivedCall(nil), r.calls...)
}

// callsWith returns the calls with one message.
func (r *receiver) callsWith(id string) []receivedCall {
	var found []receivedCall
	for _, h := range r.allCalls() {
		if h.header.Get("webhook-id") == id {
			found = append(found, h)
		}
	}
	return found
}

func acceptAll(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

func answerWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}
