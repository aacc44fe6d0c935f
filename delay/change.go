package delay

import (
	"slices"
	"strings"
	"time"

	"sluice/internal/invalid"
)

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
	Store       *string   `json:"store"`
}

// oldSecretFor is how long a replaced secret still signs beside its successor.
const oldSecretFor = 24 * time.Hour

func (c Change) apply(t *Topic, now time.Time) {
	set(&t.URL, c.URL)
	set(&t.Method, c.Method)
	set(&t.DelayMS, c.DelayMS)
	set(&t.TimeoutMS, c.TimeoutMS)
	set(&t.Retries, c.Retries)
	set(&t.RetryUnitMS, c.RetryUnitMS)
	set(&t.Alert, c.Alert)
	set(&t.Owner, c.Owner)
	if set(&t.Store, c.Store); t.Store == DefaultStore {
		t.Store = ""
	}
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
