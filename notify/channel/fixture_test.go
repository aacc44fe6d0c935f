package channel

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/store"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

const (
	eventually = 30 * time.Second
	oldSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret  = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// bench is a migrated database, a stopped clock and everything else that relay and channels need.
type bench struct {
	db     *store.DB
	cfg    Config
	clock  *testkit.Clock
	log    *slog.Logger
	onDead func(channel string, n int64)
	reg    *prometheus.Registry // of the last relay
}

// onEveryDatabase runs the test on every database, each with a new bench.
func onEveryDatabase(t *testing.T, test func(t *testing.T, b *bench)) {
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) { test(t, benchOn(t, d)) })
	}
}

// newBench returns a bench on SQLite, for tests that do not depend on the database.
func newBench(t *testing.T) *bench { return benchOn(t, tables.New(t, "sqlite")) }

func benchOn(t *testing.T, d testkit.Database) *bench {
	t.Helper()
	b := &bench{db: tables.Open(t, d), cfg: DefaultConfig(), clock: testkit.NewClock(time.UnixMilli(1_700_000_000_000)),
		log: slog.New(slog.DiscardHandler)}
	b.cfg.Poll, b.cfg.Jitter = 5*time.Millisecond, 0
	b.cfg.Lease = time.Hour // by a clock that tests move on much faster than deliveries go
	return b
}

func (b *bench) relay(channels ...notify.Channel) *notify.Relay {
	b.reg = prometheus.NewRegistry()
	return notify.NewRelay(notify.RelayParts{Config: b.cfg.Config, Write: b.db.Write, Read: b.db.Read,
		Channels: channels,
		Log:      b.log, Clock: b.clock.Now, Registry: b.reg, OnDead: b.onDead})
}

// run starts a relay; stop ends it and returns when it has ended. The test's end stops it too.
func run(t *testing.T, r *notify.Relay) (stop func()) { return testkit.Background(t, r.Run) }

// insert queues a confirmation for each of n orders.
func (b *bench) insert(t *testing.T, channel string, n int) {
	t.Helper()
	for i := range n {
		b.queue(t, channel, fmt.Sprintf("order-%04d", i), notify.EventConfirmed)
	}
}

// queue queues events of one order, in this order.
func (b *bench) queue(t *testing.T, channel, order string, events ...string) {
	t.Helper()
	for _, event := range events {
		row := notify.Row{OrderID: order, Event: event, Channel: channel, SaleID: "s1", UserID: "u1",
			CreatedAt: b.clock.Now().UnixMilli()}
		insert := func(tx *gorm.DB) error { return notify.Insert(tx, []notify.Row{row}) }
		require.NoError(t, b.db.Tx(t.Context(), insert))
	}
}

func (b *bench) rows(t *testing.T, state int) []notify.Row {
	t.Helper()
	var rows []notify.Row
	require.NoError(t, b.db.Read.Where("state = ?", state).Order("order_id").Find(&rows).Error)
	return rows
}

func (b *bench) waitFor(t *testing.T, state, n int) []notify.Row {
	t.Helper()
	require.Eventually(t, func() bool { return len(b.rows(t, state)) == n }, eventually, 2*time.Millisecond)
	return b.rows(t, state)
}

// counted returns how many deliveries of a channel the last relay has counted with an outcome.
func (b *bench) counted(channel, outcome string) float64 {
	families, err := b.reg.Gather()
	if err != nil {
		return -1
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == "sluice_notifications_total" && labels["channel"] == channel &&
				labels["outcome"] == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// recorder is a channel that remembers its messages and returns the results of answer.
type recorder struct {
	name   string
	answer func(notify.Message) notify.Result

	mu   sync.Mutex
	seen []notify.Message
}

func (c *recorder) Name() string { return c.name }

func (c *recorder) Deliver(_ context.Context, messages []notify.Message) []notify.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]notify.Result, len(messages))
	for i, m := range messages {
		c.seen = append(c.seen, m)
		results[i] = c.answer(m)
	}
	return results
}

func (c *recorder) messages() []notify.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]notify.Message(nil), c.seen...)
}

func accept(notify.Message) notify.Result { return notify.Delivered() }

// blocked is a channel whose deliveries wait for release or for their context.
type blocked struct {
	name    string
	entered chan struct{}
	release chan struct{}
}

func newBlocked(name string) *blocked {
	return &blocked{name: name, entered: make(chan struct{}, 100), release: make(chan struct{})}
}

func (c *blocked) Name() string { return c.name }

func (c *blocked) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	c.entered <- struct{}{}
	result := notify.Delivered()
	select {
	case <-c.release:
	case <-ctx.Done():
		result = notify.Retry(ctx.Err().Error())
	}
	results := make([]notify.Result, len(messages))
	for i := range results {
		results[i] = result
	}
	return results
}

// sharedLog is a log that many goroutines write.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
