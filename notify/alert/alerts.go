// Package alert tells operators what was given up, by e-mail and a webhook. On each way it does so at most once in an
// interval. It gets the ways from its caller, and knows no channel.
package alert

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/notify"
)

// Timeout bounds the sending of one alert.
const Timeout = 15 * time.Second

const (
	period     = time.Second // how often each way is checked for a due alert
	retryAfter = time.Minute // after a failure
	// maxAddresses bounds how many addresses of AddTo are remembered: the most topics there can be.
	maxAddresses = 1000
)

// The outcomes that alerts are counted by.
const (
	delivered = "delivered"
	failed    = "failed"
)

// Alerts counts what was given up and sends it to operators, at most once in an interval. Many causes make one alert
// with counts. Each way out (e-mail, webhook) is tried until it succeeds. An address of AddTo is tried until the server
// refuses it for good. Safe for concurrent use.
type Alerts struct {
	interval time.Duration
	ways     []*way
	mail     Mail // nil: there is no mail server
	log      *slog.Logger
	now      func() time.Time
	sent     *prometheus.CounterVec
	journal  *journal // nil: a restart finds nothing

	mu        sync.Mutex
	addresses map[string]*way // of AddTo
}

// Parts is what New needs.
type Parts struct {
	Config   Config // validated
	Mail     Mail   // sends e-mails; nil: there is no mail server
	Post     Post   // calls Config.URL; nil where there is none
	Log      *slog.Logger
	Now      func() time.Time
	Registry prometheus.Registerer // nil: metrics are registered nowhere
	// Redis holds under Journal what operators have yet to be told. Empty: a restart forgets it.
	Redis   redis.UniversalClient
	Journal string
}

// New returns Alerts that send nothing before Run.
func New(p Parts) *Alerts {
	cfg, reg := p.Config, p.Registry
	a := &Alerts{interval: cfg.Interval, mail: p.Mail, addresses: map[string]*way{}, log: p.Log, now: p.Now}
	if p.Journal != "" {
		a.journal = newJournal(p.Redis, p.Journal, p.Log, a.adopt)
	}
	a.sent = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_alerts_total", Help: "Alerts to operators by way and outcome.",
	}, []string{"way", "outcome"})
	if reg != nil {
		reg.MustRegister(a.sent)
	}
	if p.Mail != nil {
		a.initCounters(wayAddress)
	}
	for _, address := range cfg.Emails { // a way for each: a refused address must not keep the alert from others
		a.add("email", address, mailTo(p.Mail, address))
	}
	if p.Post != nil {
		a.add("webhook", "", postTo(p.Post))
	}
	return a
}

func (a *Alerts) add(name, address string, send sending) {
	a.ways = append(a.ways, &way{name: name, id: wayID(name, address), send: send, journal: a.journal,
		causes: map[string]int64{}})
	a.initCounters(name)
}

const wayAddress = "address" // the name of the ways of AddTo

func wayID(name, address string) string { return name + ":" + address }

// adopt takes over what a process that is gone had yet to send. What a way no longer in the configuration had to send
// is not told there.
func (a *Alerts) adopt(id, cause string, n int64) {
	if address, found := strings.CutPrefix(id, wayID(wayAddress, "")); found {
		if a.AddTo(address, cause, n) {
			return
		}
	}
	for _, w := range a.ways {
		if w.id == id {
			w.count(cause, n)
			return
		}
	}
	a.log.Warn("notify: nobody is told any more where an alert was to go", "cause", cause, "count", n)
}

// initCounters creates a way's counters, so that they appear with 0.
func (a *Alerts) initCounters(name string) {
	for _, outcome := range []string{delivered, failed} {
		a.sent.WithLabelValues(name, outcome)
	}
}

// Add counts n events of a cause into the next alert and never blocks. A cause is a short text without personal data.
// After 20 different causes, all further ones are counted as one.
func (a *Alerts) Add(cause string, n int64) {
	for _, w := range a.ways {
		w.count(cause, n)
	}
}

// AddTo counts n events of a cause into the next e-mail to one address. The address gets at most one in an interval.
// AddTo never blocks. It returns false when no mail will be sent: there is no mail server, or 1,000 addresses wait
// already.
func (a *Alerts) AddTo(address, cause string, n int64) bool {
	if a.mail == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w, found := a.addresses[address]
	if !found {
		if len(a.addresses) >= maxAddresses {
			return false
		}
		w = &way{name: wayAddress, id: wayID(wayAddress, address), send: mailTo(a.mail, address),
			journal: a.journal, causes: map[string]int64{}, single: true}
		a.addresses[address] = w
	}
	w.count(cause, n)
	return true
}

// Run sends alerts until ctx ends. Call it once.
func (a *Alerts) Run(ctx context.Context) {
	var ways sync.WaitGroup
	repeat := func(step func()) {
		ways.Go(func() {
			for ctx.Err() == nil {
				step()
				select {
				case <-ctx.Done():
				case <-time.After(period):
				}
			}
		})
	}
	for _, w := range a.ways {
		repeat(func() { a.step(ctx, w) })
	}
	repeat(func() { a.stepAddresses(ctx) })
	ways.Go(func() { a.journal.run(ctx) })
	ways.Wait()
}

// step sends a way's due alert, if there is one.
func (a *Alerts) step(ctx context.Context, w *way) {
	now := a.now()
	due := w.due(now)
	if due == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r := notify.Retry("sending panicked")
	if err := apart.Try(func() error {
		r = w.send(ctx, *due)
		return nil
	}); err != nil {
		a.log.ErrorContext(ctx, "notify: sending an alert panicked", "way", w.name, "error", err)
	}
	if r.IsDelivered() {
		w.finish(due, now.Add(a.interval))
		a.sent.WithLabelValues(w.name, delivered).Inc()
		return
	}
	a.sent.WithLabelValues(w.name, failed).Inc()
	if w.single && r.IsPermanent() {
		w.finish(due, now.Add(a.interval))
		a.log.ErrorContext(ctx, "notify: alert refused, it is not tried again",
			"way", w.name, "causes", due.causes, "error", r.Failure())
		return
	}
	w.retry(due, now.Add(retryAfter))
	a.log.ErrorContext(ctx, "notify: alert not sent, it is tried again",
		"way", w.name, "count", due.total(), "error", r.Failure())
}

// stepAddresses sends the due alerts of the addresses of AddTo, one after the other.
func (a *Alerts) stepAddresses(ctx context.Context) {
	a.mu.Lock()
	ways := slices.Collect(maps.Values(a.addresses))
	a.mu.Unlock()
	for _, w := range ways {
		if ctx.Err() != nil {
			return
		}
		a.step(ctx, w)
	}
	a.forgetAddresses()
}

// forgetAddresses forgets each address that has no unsent causes and whose interval is over.
func (a *Alerts) forgetAddresses() {
	now := a.now()
	a.mu.Lock() // locked before a way's own mutex, as in AddTo
	defer a.mu.Unlock()
	maps.DeleteFunc(a.addresses, func(_ string, w *way) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.causes) == 0 && !now.Before(w.next)
	})
}
