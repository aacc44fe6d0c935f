package delay

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sluice/internal/invalid"
)

// The kinds of a subscription.
const (
	Push = "push" // a receiver is called
	Pull = "pull" // a reader asks for messages and acknowledges them
)

// defaultSuffix ends the name of a topic's own subscription. No other name holds a dot.
const defaultSuffix = ".default"

const (
	minLease = time.Second    // of a message that a reader has received
	maxLease = 12 * time.Hour // the same, at most
)

// Subscription gets a copy of each message of a topic that its filter takes. It has retries and dead letters of its
// own. Times in the row are milliseconds.
type Subscription struct {
	Name        string `gorm:"primaryKey"` // unique among all topics; TOPIC.default is made of the topic's row
	Topic       string
	Kind        string // Push or Pull
	URL         string `gorm:"column:url"`
	Method      string // POST, PUT, PATCH or GET
	TimeoutMS   int64  `gorm:"column:timeout_ms"` // of one call
	LeaseMS     int64  `gorm:"column:lease_ms"`   // pull: how long a received message is held
	Retries     int    // attempts that may follow a failed first one
	RetryUnitMS int64  `gorm:"column:retry_unit_ms"` // multiplied by 1, 3, 5, … for the wait before each retry
	Alert       string // e-mail address for alerts about dead letters; may be empty
	Owner       string // who answers for the receiver; may be empty
	Enabled     int    // 0: messages wait
	Events      string // the only events that it takes, joined by commas; empty: all
	Sales       string // patterns of the only sales that it takes, joined by commas; empty: all
	Secret      string // signs the calls
	OldSecret   string // signs the calls too until OldUntil, unix ms
	OldUntil    int64
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	UpdatedAt   int64 `gorm:"autoUpdateTime:false"`

	version int64 // of the topic that it was read with
}

// TableName is the table of the migrations.
func (Subscription) TableName() string { return "delay_subscriptions" }

// On reports whether its messages are delivered.
func (s Subscription) On() bool { return s.Enabled != 0 }

// IsDefault reports whether it is the topic's own.
func (s Subscription) IsDefault() bool { return s.Name == s.Topic+defaultSuffix }

// Timeout bounds one call.
func (s Subscription) Timeout() time.Duration { return time.Duration(s.TimeoutMS) * time.Millisecond }

// Lease returns how long a received message is its reader's.
func (s Subscription) Lease() time.Duration { return time.Duration(s.LeaseMS) * time.Millisecond }

// EventList returns the only events that it takes; nil: all.
func (s Subscription) EventList() []string { return splitList(s.Events) }

// SaleList returns patterns of the only sales that it takes; nil: all.
func (s Subscription) SaleList() []string { return splitList(s.Sales) }

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// wait returns the time from the end of an attempt to the next: 1, 3, 5, … units. The first is attempt 1.
func (s Subscription) wait(attempt int) time.Duration {
	return time.Duration(2*attempt-1) * time.Duration(s.RetryUnitMS) * time.Millisecond
}

// secrets returns the secrets that sign a call now, the newest first.
func (s Subscription) secrets(now time.Time) []string {
	if s.OldSecret != "" && now.UnixMilli() < s.OldUntil {
		return []string{s.Secret, s.OldSecret}
	}
	return []string{s.Secret}
}

// masked returns the subscription without its secrets, for logs.
func (s Subscription) masked() Subscription {
	s.Secret, s.OldSecret = "", ""
	return s
}

// filter tells which messages a subscription takes.
type filter struct{ events, sales []string }

func (s Subscription) filter() filter { return filter{s.EventList(), s.SaleList()} }

func (f filter) takesAll() bool { return f.events == nil && f.sales == nil }

func (f filter) takes(m New) bool {
	return (f.events == nil || slices.Contains(f.events, m.Event)) &&
		(f.sales == nil || m.Sale != "" && slices.ContainsFunc(f.sales, func(pattern string) bool {
			matched, err := path.Match(pattern, m.Sale)
			return err == nil && matched
		}))
}

// Default returns the topic's own subscription, which calls the topic's URL; false where there is none.
func (t Topic) Default() (Subscription, bool) {
	return Subscription{Name: t.Name + defaultSuffix, Topic: t.Name, Kind: Push, URL: t.URL, Method: t.Method,
		TimeoutMS: t.TimeoutMS, Retries: t.Retries, RetryUnitMS: t.RetryUnitMS, Alert: t.Alert, Owner: t.Owner,
		Enabled: t.Enabled, Secret: t.Secret, OldSecret: t.OldSecret, OldUntil: t.OldUntil, CreatedAt: t.CreatedAt,
		UpdatedAt: t.UpdatedAt, version: t.Version}, t.URL != ""
}

// SubscriptionChange lists what to set of a subscription; nil leaves a value as it is.
type SubscriptionChange struct {
	URL         *string   `json:"url"`
	Method      *string   `json:"method"`
	TimeoutMS   *int64    `json:"timeout_ms"`
	LeaseMS     *int64    `json:"lease_ms"`
	Retries     *int      `json:"retries"`
	RetryUnitMS *int64    `json:"retry_unit_ms"`
	Alert       *string   `json:"alert"`
	Owner       *string   `json:"owner"`
	Enabled     *bool     `json:"enabled"`
	Events      *[]string `json:"events"`
	Sales       *[]string `json:"sales"`
	Secret      *string   `json:"secret"` // the one before stays valid for a day
}

func (c SubscriptionChange) apply(s *Subscription, now time.Time) {
	set(&s.URL, c.URL)
	set(&s.Method, c.Method)
	set(&s.TimeoutMS, c.TimeoutMS)
	set(&s.LeaseMS, c.LeaseMS)
	set(&s.Retries, c.Retries)
	set(&s.RetryUnitMS, c.RetryUnitMS)
	set(&s.Alert, c.Alert)
	set(&s.Owner, c.Owner)
	if c.Enabled != nil {
		s.Enabled = 0
		if *c.Enabled {
			s.Enabled = 1
		}
	}
	if c.Events != nil {
		s.Events = joinList(*c.Events)
	}
	if c.Sales != nil {
		s.Sales = joinList(*c.Sales)
	}
	if c.Secret != nil && *c.Secret != s.Secret {
		s.OldSecret, s.OldUntil = s.Secret, now.Add(oldSecretFor).UnixMilli()
		s.Secret = *c.Secret
	}
	s.UpdatedAt = now.UnixMilli()
}

// ofTopic returns the change of a topic that changes its own subscription so.
func (c SubscriptionChange) ofTopic() (Change, error) {
	var bad invalid.Error
	for field, given := range map[string]bool{"lease_ms": c.LeaseMS != nil, "events": c.Events != nil,
		"sales": c.Sales != nil} {
		if given {
			bad = append(bad, invalid.Field{Field: field, Detail: "cannot be set of a topic's own subscription"})
		}
	}
	if len(bad) > 0 {
		return Change{}, bad
	}
	return Change{URL: c.URL, Method: c.Method, TimeoutMS: c.TimeoutMS, Retries: c.Retries, RetryUnitMS: c.RetryUnitMS,
		Alert: c.Alert, Owner: c.Owner, Enabled: c.Enabled, Secret: c.Secret}, nil
}

func joinList(list []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), ",")
}

// NewSubscription says which subscription to create.
type NewSubscription struct {
	Name  string `json:"name"`
	Topic string `json:"topic"`
	Kind  string `json:"kind"` // Push or Pull; empty: Pull unless there is a URL
}

// newSubscription returns a subscription with the default of every value.
func newSubscription(n NewSubscription, ch SubscriptionChange, cfg Config, now time.Time) Subscription {
	s := Subscription{Name: n.Name, Topic: n.Topic, Kind: n.Kind, TimeoutMS: defaultTimeout(cfg),
		LeaseMS: time.Minute.Milliseconds(), Retries: 10, RetryUnitMS: time.Minute.Milliseconds(), Enabled: 1,
		CreatedAt: now.UnixMilli(), UpdatedAt: now.UnixMilli()}
	if s.Kind == "" {
		s.Kind = Pull
		if ch.URL != nil {
			s.Kind = Push
		}
	}
	if s.Kind == Push {
		s.Method, s.Secret = "POST", newSecret()
		if ch.Secret != nil {
			s.Secret = *ch.Secret
		}
	}
	ch.apply(&s, now)
	return s
}

// check returns an invalid.Error that names every field of s that breaks a rule.
func (s Subscription) check(cfg Config) error {
	r := rules{}
	r.check(validName(s.Name, 64, "-_"), "name", nameRule)
	r.check(s.Kind == Push || s.Kind == Pull, "kind", "must be push or pull")
	if s.Kind == Push {
		r.check(validURL(s.URL), "url", urlRule)
		r.check(slices.Contains(methods(), s.Method), "method", methodRule)
		r.check(validSecret(s.Secret), "secret", secretRule)
	} else {
		r.check(s.URL == "", "url", "must not be given: a pull subscription calls nobody")
		r.check(s.Method == "", "method", "must not be given: a pull subscription calls nobody")
		r.check(s.Secret == "", "secret", "must not be given: a pull subscription calls nobody")
	}
	r.check(s.Lease() >= minLease && s.Lease() <= maxLease, "lease_ms", "must be between %d and %d",
		minLease.Milliseconds(), maxLease.Milliseconds())
	r.delivery(s, cfg)
	r.check(len(s.Events) <= 1000 && len(s.EventList()) <= 20, "events", "must be at most 20")
	for _, e := range s.EventList() {
		r.check(validName(e, 64, "-_."), "events", "has %q: must be letters, digits, '-', '_' or '.'", e)
	}
	r.check(len(s.Sales) <= 1000 && len(s.SaleList()) <= 20, "sales", "must be at most 20")
	for _, pattern := range s.SaleList() {
		_, err := path.Match(pattern, "")
		r.check(err == nil && plainText(pattern, 64), "sales", "has %q: must be a sale's id, with * ? [a-z] for parts",
			pattern)
	}
	return r.err()
}

// rules gathers which fields break a rule.
type rules struct{ bad invalid.Error }

func (r *rules) check(ok bool, field, format string, args ...any) {
	if !ok {
		r.bad = append(r.bad, invalid.Field{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
}

// delivery checks what topics and subscriptions have in common.
func (r *rules) delivery(s Subscription, cfg Config) {
	longest := cfg.maxTimeout()
	r.check(s.TimeoutMS >= 100 && s.TimeoutMS <= longest.Milliseconds(), "timeout_ms", "must be between 100 and %d",
		longest.Milliseconds())
	r.check(s.Retries >= 0 && s.Retries <= 100, "retries", "must be between 0 and 100")
	r.check(s.RetryUnitMS >= 10 && s.RetryUnitMS <= time.Hour.Milliseconds(), "retry_unit_ms",
		"must be between 10 and 3600000")
	r.check(s.Alert == "" || validAddress(s.Alert), "alert",
		"must be an e-mail address like ann@example.com, or empty")
	r.check(s.Owner == "" || plainText(s.Owner, 128), "owner",
		"must be at most 128 characters without control characters")
}

func (r *rules) err() error {
	if len(r.bad) > 0 {
		return r.bad
	}
	return nil
}

// methods returns those by which a receiver can be called.
func methods() []string { return []string{"POST", "PUT", "PATCH", "GET"} }

const (
	nameRule   = "must be 1 to 64 letters, digits, '-' or '_', starting with a letter or digit"
	urlRule    = "must be an http or https address with a host, without user or fragment, at most 2000 characters"
	methodRule = "must be POST, PUT, PATCH or GET"
	// #nosec G101 -- no secret
	secretRule = "must be whsec_ and 24 to 64 bytes in base64; leave it out to have one made"
)
