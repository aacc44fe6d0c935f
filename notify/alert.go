package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/apart"
)

// AlertConfig says who is told that notifications and delayed messages were given up on.
type AlertConfig struct {
	// Emails are told through the server of notify.email, which need not be enabled as a channel. Empty: nobody.
	Emails []string `koanf:"emails"`
	// URL is called with a signed POST. Empty: none.
	URL string `koanf:"url" secret:"true"`
	// Secrets sign the call (Standard Webhooks). Required with URL.
	Secrets []string `koanf:"secrets"`
	// AllowPrivate lets the URL lead to loopback and private addresses. Defaults to false.
	AllowPrivate bool `koanf:"allow_private"`
	// Interval is the least time between two alerts to one receiver; what happens meanwhile is counted into the next. Defaults to 10m.
	Interval time.Duration `koanf:"interval"`
}

// DefaultAlertConfig holds the documented defaults.
func DefaultAlertConfig() AlertConfig { return AlertConfig{Interval: 10 * time.Minute} }

func (c AlertConfig) check(server EmailConfig) error {
	var errs []error
	for _, address := range c.Emails {
		if _, err := mail.ParseAddress(address); err != nil {
			errs = append(errs, errors.New("notify.alert.emails: holds something that is no e-mail address"))
		}
	}
	if len(c.Emails) > 0 && !server.Mails() {
		errs = append(errs, errors.New("notify.email.addr: alerts by e-mail need an SMTP server, host:port"))
	}
	if c.URL != "" {
		errs = append(errs, checkURL("notify.alert.url", c.URL))
		if _, err := NewSigner(c.Secrets...); err != nil {
			errs = append(errs, fmt.Errorf("notify.alert.secrets: %w", err))
		}
	}
	if c.Interval < time.Second || c.Interval > 24*time.Hour {
		errs = append(errs, fmt.Errorf("notify.alert.interval: %v is out of range, use 1s to 24h", c.Interval))
	}
	return errors.Join(errs...)
}

const (
	alertLook  = time.Second      // how often there may be something to tell
	alertRetry = time.Minute      // after a way out failed
	alertTime  = 15 * time.Second // for one way out
	maxCauses  = 20               // named in one alert; the rest is summed up
)

// Alerts gathers what went wrong for good and tells operators, at most once in an interval: a storm is one alert with a count.
// Each way out (e-mail, webhook) is tried until it has told; an address of AddTo, until the server refuses it for good. Safe for
// concurrent use.
type Alerts struct {
	interval time.Duration
	ways     []*alertWay
	mailer   *Mailer // nil: nobody can be mailed to
	log      *slog.Logger
	now      func() time.Time
	sent     *prometheus.CounterVec

	mu        sync.Mutex
	addresses map[string]*alertWay // of AddTo
}

// alertWay is one way out with what it has yet to tell.
type alertWay struct {
	name string
	send func(ctx context.Context, subject string, causes map[string]int64, at time.Time) Result
	// single says that this is one address, which may not exist: operators have heard of the same by their own ways.
	single bool

	// untold is the alert that failed, nil: none. It is repeated as it was, under its id, so that a receiver that has heard it after
	// all can tell.
	untold *alert

	mu     sync.Mutex
	causes map[string]int64
	next   time.Time // not before
}

// alert is what one way out tells at once.
type alert struct {
	at     time.Time // also its id
	causes map[string]int64
}

func (a alert) total() (n int64) {
	for _, count := range a.causes {
		n += count
	}
	return n
}

// NewAlerts takes a validated Config; mailer is nil when no mail server is configured. Its metrics go to reg (nil: nowhere).
func NewAlerts(cfg AlertConfig, mailer *Mailer, log *slog.Logger, now func() time.Time, reg prometheus.Registerer) (*Alerts, error) {
	a := &Alerts{interval: cfg.Interval, mailer: mailer, addresses: map[string]*alertWay{}, log: log, now: now, sent: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_alerts_total", Help: "Alerts to operators by way and outcome.",
	}, []string{"way", "outcome"})}
	if reg != nil {
		reg.MustRegister(a.sent)
	}
	if mailer != nil {
		a.zero("address")
	}
	for _, address := range cfg.Emails { // each by itself: one that is refused keeps it from no other
		a.add("email", a.mailTo(address))
	}
	if cfg.URL != "" {
		hook, err := newWebhook(WebhookConfig{OutletConfig: OutletConfig{Timeout: alertTime}, URL: cfg.URL, Secrets: cfg.Secrets, AllowPrivate: cfg.AllowPrivate}, now)
		if err != nil {
			return nil, err
		}
		a.add("webhook", func(ctx context.Context, subject string, causes map[string]int64, at time.Time) Result {
			defer hook.close() // alerts are rare: no connection waits for the next
			body, err := json.Marshal(map[string]any{"type": "alert", "timestamp": at.UTC().Format(time.RFC3339),
				"data": map[string]any{"summary": subject, "causes": causes}})
			if err != nil {
				return Permanent("the alert could not be written as JSON")
			}
			return hook.post(ctx, fmt.Sprintf("alert:%d", at.UnixNano()), body)
		})
	}
	return a, nil
}

func (a *Alerts) add(name string, send func(context.Context, string, map[string]int64, time.Time) Result) {
	a.ways = append(a.ways, &alertWay{name: name, send: send, causes: map[string]int64{}})
	a.zero(name)
}

// zero shows a way's counters before anything is counted.
func (a *Alerts) zero(name string) {
	for _, outcome := range []string{countDelivered, "failed"} {
		a.sent.WithLabelValues(name, outcome)
	}
}

// Add counts n events of a cause into the next alert and never blocks. A cause is a short text without personal data; of more
// than 20 different ones the rest is counted together.
func (a *Alerts) Add(cause string, n int64) {
	for _, w := range a.ways {
		w.count(cause, n)
	}
}

func (w *alertWay) count(cause string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.causes[cause]; !known && len(w.causes) >= maxCauses {
		cause = "other causes"
	}
	w.causes[cause] += n
}

// Run alerts until ctx ends. Call it once.
func (a *Alerts) Run(ctx context.Context) {
	var ways sync.WaitGroup
	look := func(step func()) {
		ways.Go(func() {
			for ctx.Err() == nil {
				step()
				idle(ctx, nil, alertLook)
			}
		})
	}
	for _, w := range a.ways {
		look(func() { a.step(ctx, w) })
	}
	look(func() { a.stepAddresses(ctx) })
	ways.Wait()
}

// step tells what has gathered, if it is time.
func (a *Alerts) step(ctx context.Context, w *alertWay) {
	now := a.now()
	tell := w.due(now)
	if tell == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, alertTime)
	defer cancel()
	r := Retry("sending panicked")
	if err := apart.Try(func() error {
		r = w.send(ctx, fmt.Sprintf("Sluice: %d given up", tell.total()), tell.causes, tell.at)
		return nil
	}); err != nil {
		a.log.ErrorContext(ctx, "notify: sending an alert panicked", "way", w.name, "error", err)
	}
	if r.outcome == delivered {
		w.told(tell, now.Add(a.interval))
		a.sent.WithLabelValues(w.name, countDelivered).Inc()
		return
	}
	a.sent.WithLabelValues(w.name, "failed").Inc()
	if w.single && r.outcome == permanent {
		w.told(tell, now.Add(a.interval))
		a.log.ErrorContext(ctx, "notify: alert refused, it is not tried again", "way", w.name, "causes", tell.causes, "error", r.err)
		return
	}
	w.failed(tell, now.Add(alertRetry))
	a.log.ErrorContext(ctx, "notify: alert not sent, it is tried again", "way", w.name, "count", tell.total(), "error", r.err)
}

// due is what to tell now: what failed before, else what has gathered; nil when there is nothing or it is not time.
func (w *alertWay) due(now time.Time) *alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case now.Before(w.next):
		return nil
	case w.untold != nil:
		return w.untold
	case len(w.causes) == 0:
		return nil
	}
	return &alert{now, maps.Clone(w.causes)}
}

func (w *alertWay) failed(tell *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold, w.next = tell, next
}

// told takes off what an alert said; more may have gathered since.
func (w *alertWay) told(tell *alert, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold, w.next = nil, next
	for cause, n := range tell.causes {
		if w.causes[cause] -= n; w.causes[cause] <= 0 {
			delete(w.causes, cause)
		}
	}
}

func listed(causes map[string]int64) string {
	var text strings.Builder
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		fmt.Fprintf(&text, "%6d  %s\n", causes[cause], cause)
	}
	text.WriteString("\nList them with: sluice notify list --state dead, sluice topic dead list TOPIC\n")
	return text.String()
}
