// Package delay keeps messages until they are due and then calls the shop's other systems with them.
//
// Topics in the database say where and how. Messages wait in Redis. A dispatcher delivers each at least once over HTTP.
// The body is signed, and the id is the same in every repeat. What cannot be delivered becomes a dead letter.
// Nothing is dropped but by an operator.
package delay

import (
	"crypto/rand"
	"encoding/base64"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Topic takes messages for its subscriptions. Its own URL, when it has one, is one of them. Times are milliseconds.
type Topic struct {
	Name        string `gorm:"primaryKey"`
	URL         string `gorm:"column:url"`
	Method      string // POST, PUT, PATCH or GET
	DelayMS     int64  `gorm:"column:delay_ms"`   // of messages that name no time of their own
	TimeoutMS   int64  `gorm:"column:timeout_ms"` // of one call
	Retries     int    // calls that may follow a failed first one
	RetryUnitMS int64  `gorm:"column:retry_unit_ms"` // multiplied by 1, 3, 5, … for the wait before each retry
	Alert       string // e-mail address for alerts about dead letters; may be empty
	Owner       string // who answers for the receiver; may be empty
	Enabled     int    // 0: messages wait
	Events      string // order events that become messages, joined by commas
	Secret      string // signs the calls
	OldSecret   string // signs the calls too until OldUntil, unix ms
	OldUntil    int64
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	UpdatedAt   int64 `gorm:"autoUpdateTime:false"`
	Version     int64 // raised by each change of the topic or of one of its subscriptions; never lower after a restore
}

// TableName returns the table of the migrations.
func (Topic) TableName() string { return "delay_topics" }

// On reports whether the topic's URL is called.
func (t Topic) On() bool { return t.Enabled != 0 }

// Delay returns how long a message waits that names no time of its own.
func (t Topic) Delay() time.Duration { return time.Duration(t.DelayMS) * time.Millisecond }

// EventList returns the order events that become messages of this topic.
func (t Topic) EventList() []string { return splitList(t.Events) }

// masked returns the topic without its secrets, for logs.
func (t Topic) masked() Topic {
	t.Secret, t.OldSecret = "", ""
	return t
}

// Change lists what to set of a topic; nil leaves a value as it is.
type Change struct {
	URL         *string   `json:"url"`
	Method      *string   `json:"method"`
	DelayMS     *int64    `json:"delay_ms"`
	TimeoutMS   *int64    `json:"timeout_ms"`
	Retries     *int      `json:"retries"`
	RetryUnitMS *int64    `json:"retry_unit_ms"`
	Alert       *string   `json:"alert"`
	Owner       *string   `json:"owner"`
	Enabled     *bool     `json:"enabled"`
	Events      *[]string `json:"events"`
	Secret      *string   `json:"secret"` // the one before stays valid for a day
}

// oldSecretFor is how long a replaced secret still signs beside its successor.
const oldSecretFor = 24 * time.Hour

// newTopic returns a topic with the default of every value.
func newTopic(name string, cfg Config, now time.Time) Topic {
	return Topic{Name: name, Method: "POST", TimeoutMS: defaultTimeout(cfg),
		Retries: 10, RetryUnitMS: time.Minute.Milliseconds(), Enabled: 1,
		CreatedAt: now.UnixMilli(), UpdatedAt: now.UnixMilli(), Version: now.UnixMilli()}
}

func defaultTimeout(cfg Config) int64 { return min(10*time.Second, cfg.maxTimeout()).Milliseconds() }

// changed returns the topic with its next version. It follows the clock, so that a topic which is created again has a
// higher one than it ever had.
func (t Topic) changed(now time.Time) Topic {
	t.Version = max(t.Version+1, now.UnixMilli())
	return t
}

func (c Change) apply(t *Topic, now time.Time) {
	set(&t.URL, c.URL)
	set(&t.Method, c.Method)
	set(&t.DelayMS, c.DelayMS)
	set(&t.TimeoutMS, c.TimeoutMS)
	set(&t.Retries, c.Retries)
	set(&t.RetryUnitMS, c.RetryUnitMS)
	set(&t.Alert, c.Alert)
	set(&t.Owner, c.Owner)
	if c.Enabled != nil {
		t.Enabled = 0
		if *c.Enabled {
			t.Enabled = 1
		}
	}
	if c.Events != nil {
		t.Events = joinList(*c.Events)
	}
	if c.Secret != nil && *c.Secret != t.Secret {
		t.OldSecret, t.OldUntil = t.Secret, now.Add(oldSecretFor).UnixMilli()
		t.Secret = *c.Secret
	}
	t.UpdatedAt = now.UnixMilli()
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

const secretPrefix = "whsec_"

// newSecret returns a fresh signing secret of 32 bytes.
func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(raw)
}

func validSecret(secret string) bool {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(text)
	return ok && err == nil && len(raw) >= 24 && len(raw) <= 64
}

// check returns an invalid.Error that names every field of t that breaks a rule.
func (t Topic) check(cfg Config, events []string) error {
	r := rules{}
	r.check(validName(t.Name, 64, "-_"), "name", nameRule)
	r.check(t.URL == "" || validURL(t.URL), "url", urlRule)
	r.check(slices.Contains(methods(), t.Method), "method", methodRule)
	r.check(t.DelayMS >= 0 && t.DelayMS <= cfg.MaxDelay.Milliseconds(), "delay_ms",
		"must be between 0 and %d (delay.max_delay)", cfg.MaxDelay.Milliseconds())
	own, _ := t.Default()
	r.delivery(own, cfg)
	r.check(validSecret(t.Secret), "secret", secretRule)
	for _, e := range t.EventList() {
		r.check(slices.Contains(events, e), "events", "has %q: %s", e, allowedEvents(events))
	}
	return r.err()
}

// allowedEvents says which events a topic may ask for.
func allowedEvents(events []string) string {
	if len(events) == 0 {
		return "order events are off, set delay.order_events: true"
	}
	return "there are " + strings.Join(events, ", ")
}

// validName reports whether text is letters, digits and characters of others, starting with a letter or digit.
func validName(text string, most int, others string) bool {
	for i, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune(others, r)) {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= most
}

func validURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= 2000 && plainText(text, 2000) && (u.Scheme == "http" || u.Scheme == "https") &&
		u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

func validAddress(text string) bool {
	parsed, err := mail.ParseAddress(text)
	return err == nil && parsed.Name == "" && parsed.Address == text && plainText(text, 254)
}

func plainText(s string, most int) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}
