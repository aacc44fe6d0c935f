package channel

import (
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/notify/relay"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// bench is what a relay and channels need, and makes relays.
type bench struct {
	*outbox.Bench
	cfg    Config
	onDead func(channel string, n int64)
	reg    *prometheus.Registry // of the last relay
}

// onEveryDatabase runs the test on every database, each with a new bench.
func onEveryDatabase(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	outbox.OnEveryDatabase(t, func(t *testing.T, b *outbox.Bench) { test(t, benchOf(b)) })
}

// newBench returns a bench on SQLite, for tests that do not depend on the database.
func newBench(t *testing.T) *bench {
	t.Helper()
	return benchOf(outbox.New(t))
}

func benchOf(b *outbox.Bench) *bench {
	cfg := DefaultConfig()
	cfg.Config = b.Config
	return &bench{Bench: b, cfg: cfg}
}

func (b *bench) relay(channels ...notify.Channel) *relay.Relay {
	b.reg = prometheus.NewRegistry()
	return relay.New(relay.Parts{Config: b.cfg.Config, Write: b.DB.Write, Read: b.DB.Read, Channels: channels,
		Log: b.Log, Clock: b.Clock.Now, Registry: b.reg, OnDead: b.onDead})
}

// run starts a relay; stop ends it and returns when it has ended. The test's end stops it too.
func run(t *testing.T, r *relay.Relay) (stop func()) {
	t.Helper()
	return testkit.Background(t, r.Run)
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
