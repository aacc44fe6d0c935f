package relay

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"sluice/internal/testkit"
	"sluice/internal/testkit/outbox"
	"sluice/internal/testkit/tables"
	"sluice/notify"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

// bench is what a relay needs, and makes relays.
type bench struct{ *outbox.Bench }

// onEveryDatabase runs the test on every database, each with a new bench.
func onEveryDatabase(t *testing.T, test func(t *testing.T, b bench)) {
	t.Helper()
	outbox.OnEveryDatabase(t, func(t *testing.T, b *outbox.Bench) { test(t, bench{b}) })
}

// relayParts returns the parts of a relay for channels.
func (b bench) relayParts(channels ...notify.Channel) Parts {
	return Parts{Config: b.Config, Write: b.DB.Write, Read: b.DB.Read, Channels: channels, Log: b.Log,
		Clock: b.Clock.Now, Registry: prometheus.NewRegistry()}
}

func (b bench) relay(channels ...notify.Channel) *Relay { return New(b.relayParts(channels...)) }

// run starts a relay; stop ends it and returns when it has ended. The test's end stops it too.
func run(t *testing.T, r *Relay) (stop func()) { return testkit.Background(t, r.Run) }

func counted(r *Relay, channel, outcome string) float64 {
	return testutil.ToFloat64(r.metrics.finished.WithLabelValues(channel, outcome))
}
