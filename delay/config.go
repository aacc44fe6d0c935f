package delay

import (
	"errors"
	"fmt"
	"time"

	"sluice/internal/pattern"
	"sluice/store/redis"
)

// MaxBatch bounds how many messages one script call takes or returns: what Lua's stack allows.
const MaxBatch = 1000

// GoneFor is how long a deleted topic takes no messages. By then every process has refreshed its topics.
const GoneFor = time.Minute

// Config bounds topics, messages and their delivery.
type Config struct {
	// Batch is how many due messages one claim takes at most. Defaults to 500.
	Batch int `koanf:"batch"`
	// Workers is how many messages one process may be delivering at a time, all topics together. Defaults to 1024.
	Workers int `koanf:"workers"`
	// PerTopic is how many of these messages one subscription may have, so that a slow receiver delays no other.
	// Defaults to 256.
	PerTopic int `koanf:"per_topic"`
	// Failures is how many different messages in a row may fail at a receiver before it is left alone. Defaults to 5.
	Failures int `koanf:"failures"`
	// Pause is how long a receiver that fails is left alone before it is called once. Defaults to 30s.
	Pause time.Duration `koanf:"pause"`
	// Poll is how often a dispatcher looks for due messages. A message that is due at once may be late by this much.
	// Defaults to 50ms.
	Poll time.Duration `koanf:"poll"`
	// Lease is how long a dispatcher owns a message that it took. A crash delays the message by at most this long.
	// Defaults to 1m.
	Lease time.Duration `koanf:"lease"`
	// Jitter lengthens a wait before a retry by a random part of at most this fraction. Defaults to 0.1.
	Jitter float64 `koanf:"jitter"`
	// Grace is how long calls in progress may go on after the dispatcher is stopped. Defaults to 5s.
	Grace time.Duration `koanf:"grace"`
	// Refresh is how often a process reads the topics again. Defaults to 1s.
	Refresh time.Duration `koanf:"refresh"`
	// MaxTopics is how many topics there may be. Defaults to 200.
	MaxTopics int `koanf:"max_topics"`
	// MaxSubscriptions is how many subscriptions one topic may have beside its own URL. Defaults to 50.
	MaxSubscriptions int `koanf:"max_subscriptions"`
	// MaxMessages is how many messages of one subscription may wait, be delivered or be dead at a time. Defaults to
	// 2,000,000.
	MaxMessages int `koanf:"max_messages"`
	// MaxDelay is the furthest due time, from now. Defaults to 8760h, a year.
	MaxDelay time.Duration `koanf:"max_delay"`
	// Keep is how many finished messages of a subscription stay readable, without their bodies. Defaults to 10,000.
	Keep int `koanf:"keep"`
	// Topics are patterns of the only topics that the notifiers of this process deliver, as in path.Match. Defaults to
	// all.
	Topics []string `koanf:"topics"`
	// AllowPrivate lets topics call private and loopback addresses too. Defaults to false.
	AllowPrivate bool `koanf:"allow_private"`
	// OrderEvents offers the events of orders to topics, at the price of one outbox row for each. Defaults to false.
	OrderEvents bool `koanf:"order_events"`
	// Redis keeps the messages of topics that choose no store, in the form of the section redis. Unset: the main Redis.
	Redis redis.Config `koanf:"redis"`
	// Stores are further Redis that topics may choose, by name, each in the form of the section redis.
	Stores map[string]redis.Config `koanf:"stores" secret:"true"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{Batch: 500, Workers: 1024, PerTopic: 256, Failures: 5, Pause: 30 * time.Second,
		Poll: 50 * time.Millisecond, Lease: time.Minute,
		Jitter: 0.1, Grace: 5 * time.Second,
		Refresh: time.Second, MaxTopics: 200, MaxSubscriptions: 50, MaxMessages: 2_000_000,
		MaxDelay: 365 * 24 * time.Hour, Keep: 10_000, Redis: defaultRedis()}
}

// Validate returns every bad value, each named by its configuration key.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("delay.%s: %v is out of range, use %s", key, value, allowed))
		}
	}
	check(c.Batch >= 1 && c.Batch <= MaxBatch, "batch", c.Batch, "1 to 1000")
	check(c.Workers >= 1 && c.Workers <= 100_000, "workers", c.Workers, "1 to 100000")
	check(c.PerTopic >= 1 && c.PerTopic <= c.Workers, "per_topic", c.PerTopic, "1 to delay.workers")
	check(c.Failures >= 1 && c.Failures <= 1000, "failures", c.Failures, "1 to 1000")
	check(c.Pause >= time.Millisecond && c.Pause <= time.Hour, "pause", c.Pause, "1ms to 1h")
	check(c.Poll >= time.Millisecond && c.Poll <= time.Minute, "poll", c.Poll, "1ms to 1m")
	check(c.Lease >= time.Second && c.Lease <= time.Hour, "lease", c.Lease, "1s to 1h")
	check(c.Jitter >= 0 && c.Jitter <= 1, "jitter", c.Jitter, "0 to 1")
	check(c.Grace >= 0 && c.Grace <= time.Minute, "grace", c.Grace, "0 to 1m")
	check(c.Refresh >= 10*time.Millisecond && c.Refresh <= GoneFor/2, "refresh", c.Refresh, "10ms to 30s")
	check(c.MaxTopics >= 1 && c.MaxTopics <= 1000, "max_topics", c.MaxTopics, "1 to 1000")
	check(c.MaxSubscriptions >= 1 && c.MaxSubscriptions <= 1000, "max_subscriptions", c.MaxSubscriptions, "1 to 1000")
	check(c.MaxMessages >= 1 && c.MaxMessages <= 100_000_000, "max_messages", c.MaxMessages, "1 to 100000000")
	check(c.MaxDelay >= time.Second && c.MaxDelay <= 10*365*24*time.Hour, "max_delay", c.MaxDelay, "1s to 87600h")
	check(c.Keep >= 0 && c.Keep <= 1_000_000, "keep", c.Keep, "0 to 1000000")
	return errors.Join(append(errs, c.validateStores(), pattern.Check("delay.topics", c.Topics))...)
}

// MaxTimeout returns the longest call a topic may allow. A lease must outlive the call and the storing of its result.
func (c Config) MaxTimeout() time.Duration { return min(30*time.Second, c.Lease/2) }
