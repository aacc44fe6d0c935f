package delay

import (
	"path"
	"slices"
	"strings"
	"time"
)

// The kinds of a subscription.
const (
	Push = "push" // a receiver is called
	Pull = "pull" // a reader asks for messages and acknowledges them
)

// defaultSuffix ends the name of a topic's own subscription. No other name holds a dot.
const defaultSuffix = ".default"

// MinLease and MaxLease bound how long a reader holds a message that it has received.
const (
	MinLease = time.Second
	MaxLease = 12 * time.Hour
)

// Subscription gets a copy of each message of a topic that its filter takes. It has retries and dead letters of its
// own. Times in the row are milliseconds.
type Subscription struct {
	Name        string `gorm:"primaryKey"` // unique among all topics; TOPIC.default is made of the topic's row
	Topic       string
	Kind        string // Push or Pull; Channel of a topic's own
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

	Version int64  `gorm:"-" json:"-"` // of the topic that it was read with: scripts compare it
	Store   string `gorm:"-" json:"-"` // of the topic
}

// TableName returns the table of the migrations.
func (Subscription) TableName() string { return "delay_subscriptions" }

// On reports whether its messages are delivered.
func (s Subscription) On() bool { return s.Enabled != 0 }

// OwnOf names a topic's own subscription.
func OwnOf(topic string) Subscription { return Subscription{Name: topic + defaultSuffix, Topic: topic} }

// Title returns how logs and errors name a subscription; a topic's own is named as the topic.
func (s Subscription) Title() string {
	if s.IsDefault() {
		return "topic " + s.Topic
	}
	return "subscription " + s.Name
}

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

// Wait returns the time from the end of an attempt to the next: 1, 3, 5, … units. The first is attempt 1.
func (s Subscription) Wait(attempt int) time.Duration {
	return time.Duration(2*attempt-1) * time.Duration(s.RetryUnitMS) * time.Millisecond
}

// Secrets returns the secrets that sign a call now, the newest first.
func (s Subscription) Secrets(now time.Time) []string {
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

// Filter tells which messages a subscription takes.
type Filter struct{ events, sales []string }

// Filter returns the subscription's filter.
func (s Subscription) Filter() Filter { return Filter{s.EventList(), s.SaleList()} }

// TakesAll reports whether it takes every message.
func (f Filter) TakesAll() bool { return f.events == nil && f.sales == nil }

// Takes reports whether it takes a message.
func (f Filter) Takes(m New) bool {
	return (f.events == nil || slices.Contains(f.events, m.Event)) &&
		(f.sales == nil || m.Sale != "" && slices.ContainsFunc(f.sales, func(pattern string) bool {
			matched, err := path.Match(pattern, m.Sale)
			return err == nil && matched
		}))
}

// with returns the subscription with what it has of its topic.
func (s Subscription) with(t Topic) Subscription {
	s.Version, s.Store = t.Version, t.Store
	return s
}

// Default returns the topic's own subscription, which calls the topic's URL or sends by its channel; false where there
// is none.
func (t Topic) Default() (Subscription, bool) {
	kind := Push
	if t.ByChannel() {
		kind = Channel
	}
	return Subscription{Name: t.Name + defaultSuffix, Topic: t.Name, Kind: kind, URL: t.URL, Method: t.Method,
		TimeoutMS: t.TimeoutMS, Retries: t.Retries, RetryUnitMS: t.RetryUnitMS, Alert: t.Alert, Owner: t.Owner,
		Enabled: t.Enabled, Secret: t.Secret, OldSecret: t.OldSecret, OldUntil: t.OldUntil, CreatedAt: t.CreatedAt,
		UpdatedAt: t.UpdatedAt, Version: t.Version, Store: t.Store}, t.URL != "" || t.ByChannel()
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
