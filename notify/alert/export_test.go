package alert

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"sluice/notify"
)

// What the tests of this package need to see from outside.
const (
	RetryAfter   = retryAfter
	MaxAddresses = maxAddresses
	MaxCauses    = maxCauses
)

// StepAll sends what is due on each way of the configuration.
func (a *Alerts) StepAll(ctx context.Context) {
	for _, w := range a.ways {
		a.step(ctx, w)
	}
}

// StepAddresses sends what is due to the addresses of AddTo.
func (a *Alerts) StepAddresses(ctx context.Context) { a.stepAddresses(ctx) }

// AddWay adds a way that calls send.
func (a *Alerts) AddWay(name string, send func() notify.Result) {
	a.add(name, "", func(context.Context, alert) notify.Result { return send() })
}

// Causes is what the first way has yet to send.
func (a *Alerts) Causes() map[string]int64 { return a.ways[0].causes }

// Remembers reports whether an address of AddTo is remembered.
func (a *Alerts) Remembers(address string) bool {
	_, known := a.addresses[address]
	return known
}

// Sent is how many alerts went out one way with an outcome.
func (a *Alerts) Sent(way, outcome string) float64 {
	return testutil.ToFloat64(a.sent.WithLabelValues(way, outcome))
}

// Field is where the journal counts a cause for an address of AddTo.
func (a *Alerts) Field(address, cause string) string {
	return a.journal.field(entry{wayID(wayAddress, address), cause})
}

// Alive is where the journal says that its process lives.
func (a *Alerts) Alive() string { return a.journal.alive() }

// Journal is the journal of a process.
type Journal struct{ *journal }

func NewJournal(rdb redis.UniversalClient, key string, log *slog.Logger, count func(string, string, int64)) Journal {
	return Journal{newJournal(rdb, key, log, count)}
}

func (j Journal) Add(way, cause string, n int64) { j.add(way, cause, n) }

func (j Journal) Write(ctx context.Context) error { return j.write(ctx, true) }

func (j Journal) Adopt(ctx context.Context) error { return j.adopt(ctx) }

func (j Journal) Field(way, cause string) string { return j.field(entry{way, cause}) }
