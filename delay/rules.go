package delay

import (
	"fmt"
	"net/mail"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/invalid"
)

// check returns an invalid.Error that names every field of t that breaks a rule.
func (t Topic) check(cfg Config, events []string) error {
	r, stores := rules{}, cfg.StoreNames()
	r.check(slices.Contains(stores, t.StoreName()), "store", "has %q: there are %s (delay.stores)", t.Store,
		strings.Join(stores, ", "))
	r.check(invalid.Name(t.Name, 64, "-_"), "name", nameRule)
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

// check returns an invalid.Error that names every field of s that breaks a rule.
func (s Subscription) check(cfg Config) error {
	r := rules{}
	r.check(invalid.Name(s.Name, 64, "-_"), "name", nameRule)
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
	r.check(s.Lease() >= MinLease && s.Lease() <= MaxLease, "lease_ms", "must be between %d and %d",
		MinLease.Milliseconds(), MaxLease.Milliseconds())
	r.delivery(s, cfg)
	r.check(len(s.Events) <= 1000 && len(s.EventList()) <= 20, "events", "must be at most 20")
	for _, e := range s.EventList() {
		r.check(invalid.Name(e, 64, "-_."), "events", "has %q: must be letters, digits, '-', '_' or '.'", e)
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
	longest := cfg.MaxTimeout()
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
