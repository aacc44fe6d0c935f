package notify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

const eventually = 30 * time.Second

// bench is a migrated database, a stopped clock and everything else that a relay needs.
type bench struct {
	db    *store.DB
	cfg   Config
	clock *testkit.Clock
	log   *slog.Logger
}

// onEveryDatabase runs the test on every database, each with a new bench.
func onEveryDatabase(t *testing.T, test func(t *testing.T, b *bench)) {
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			test(t, benchOn(t, d))
		})
	}
}

func benchOn(t *testing.T, d testkit.Database) *bench {
	t.Helper()
	b := &bench{db: tables.Open(t, d), cfg: DefaultConfig(), clock: testkit.NewClock(time.UnixMilli(1_700_000_000_000)),
		log: slog.New(slog.DiscardHandler)}
	b.cfg.Poll, b.cfg.Jitter = 5*time.Millisecond, 0
	return b
}

// relayParts returns the parts of a relay for channels.
func (b *bench) relayParts(channels ...Channel) RelayParts {
	return RelayParts{Config: b.cfg, Write: b.db.Write, Read: b.db.Read, Channels: channels, Log: b.log,
		Clock: b.clock.Now, Registry: prometheus.NewRegistry()}
}

func (b *bench) relay(channels ...Channel) *Relay {
	return NewRelay(b.relayParts(channels...))
}

// run starts a relay; stop ends it and returns when it has ended. The test's end stops it too.
func run(t *testing.T, r *Relay) (stop func()) { return testkit.Background(t, r.Run) }

func (b *bench) insert(t *testing.T, channel string, n int) {
	t.Helper()
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{OrderID: fmt.Sprintf("order-%04d", i), Event: "order.confirmed", Channel: channel, SaleID: "s1",
			UserID: "u1", CreatedAt: b.clock.Now().UnixMilli()}
	}
	require.NoError(t, b.db.Tx(t.Context(), func(tx *gorm.DB) error { return Insert(tx, rows) }))
}

func (b *bench) rows(t *testing.T, state int) []Row {
	t.Helper()
	var rows []Row
	require.NoError(t, b.db.Read.Where("state = ?", state).Order("order_id").Find(&rows).Error)
	return rows
}

func (b *bench) waitFor(t *testing.T, state, n int) []Row {
	t.Helper()
	require.Eventually(t, func() bool { return len(b.rows(t, state)) == n }, eventually, 2*time.Millisecond)
	return b.rows(t, state)
}

func counted(r *Relay, channel, outcome string) float64 {
	return testutil.ToFloat64(r.metrics.finished.WithLabelValues(channel, outcome))
}

// recorder is a channel that remembers its messages and returns the results of answer.
type recorder struct {
	name   string
	answer func(Message) Result

	mu   sync.Mutex
	seen []Message
}

func (c *recorder) Name() string { return c.name }

func (c *recorder) Deliver(_ context.Context, messages []Message) []Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]Result, len(messages))
	for i, m := range messages {
		c.seen = append(c.seen, m)
		results[i] = c.answer(m)
	}
	return results
}

func (c *recorder) messages() []Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Message(nil), c.seen...)
}

func accept(Message) Result { return Delivered() }

// blocked is a channel whose deliveries wait for release or for their context.
type blocked struct {
	name    string
	entered chan struct{}
	release chan struct{}
	answer  Result
}

func newBlocked(name string, answer Result) *blocked {
	return &blocked{name: name, entered: make(chan struct{}, 100), release: make(chan struct{}), answer: answer}
}

func (c *blocked) Name() string { return c.name }

func (c *blocked) Deliver(ctx context.Context, messages []Message) []Result {
	c.entered <- struct{}{}
	results := make([]Result, len(messages))
	select {
	case <-c.release:
		for i := range results {
			results[i] = c.answer
		}
	case <-ctx.Done():
		for i := range results {
			results[i] = Retry(ctx.Err().Error())
		}
	}
	return results
}
