package notify

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds the relay.
type Config struct {
	// Poll is how often each channel looks for due rows when nobody wakes it. Defaults to 100ms.
	Poll time.Duration `koanf:"poll"`
	// Batch is how many rows one delivery may hold, or Width times as many on a Wide channel. Defaults to 100.
	Batch int `koanf:"batch"`
	// Lease is how long a relay owns the rows it took; a crash delays them by at most this long. Defaults to 30s.
	Lease time.Duration `koanf:"lease"`
	// Timeout bounds one delivery of a batch and must be shorter than Lease. Defaults to 20s.
	Timeout time.Duration `koanf:"timeout"`
	// Retries is how many deliveries may follow a failed first one. Defaults to 10.
	Retries int `koanf:"retries"`
	// RetryUnit is multiplied by 1, 3, 5, … for the wait before each retry. Defaults to 1m.
	RetryUnit time.Duration `koanf:"retry_unit"`
	// Jitter lengthens a wait by a random part of at most this fraction. Defaults to 0.1.
	Jitter float64 `koanf:"jitter"`
	// Grace is how long a delivery in progress may go on after the relay is stopped. Defaults to 5s.
	Grace time.Duration `koanf:"grace"`
	// Keep is how long a delivered row stays. Defaults to 24h. Dead rows stay.
	Keep time.Duration `koanf:"keep"`
	// MaxAge is how long after an event its rows are still sent; older ones end unsent. Defaults to 168h; 0: any age.
	MaxAge time.Duration `koanf:"max_age"`
	// Sweep is how often delivered rows older than Keep are deleted. Defaults to 1m.
	Sweep time.Duration `koanf:"sweep"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Poll: 100 * time.Millisecond, Batch: 100, Lease: 30 * time.Second, Timeout: 20 * time.Second, Retries: 10,
		RetryUnit: time.Minute, Jitter: 0.1, Grace: 5 * time.Second, Keep: 24 * time.Hour, MaxAge: 7 * 24 * time.Hour,
		Sweep: time.Minute,
	}
}

// Validate returns every bad value, each named by its configuration key.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("notify.%s: %v is out of range, use %s", key, value, allowed))
		}
	}
	check(c.Poll >= time.Millisecond && c.Poll <= time.Minute, "poll", c.Poll, "1ms to 1m")
	check(c.Batch >= 1 && c.Batch <= 1000, "batch", c.Batch, "1 to 1000")
	check(c.Lease > 0 && c.Lease <= time.Hour, "lease", c.Lease, "more than 0, at most 1h")
	check(c.Timeout > 0 && c.Timeout < c.Lease, "timeout", c.Timeout, "more than 0 and less than notify.lease")
	check(c.Retries >= 0 && c.Retries <= 100, "retries", c.Retries, "0 to 100")
	check(c.RetryUnit > 0 && c.RetryUnit <= time.Hour, "retry_unit", c.RetryUnit, "more than 0, at most 1h")
	check(c.Jitter >= 0 && c.Jitter <= 1, "jitter", c.Jitter, "0 to 1")
	check(c.Grace >= 0 && c.Grace <= time.Minute, "grace", c.Grace, "0 to 1m")
	check(c.Keep >= 0, "keep", c.Keep, "0 or more")
	check(c.MaxAge == 0 || c.MaxAge >= time.Minute, "max_age", c.MaxAge, "0 or at least 1m")
	check(c.Sweep > 0, "sweep", c.Sweep, "more than 0")
	return errors.Join(errs...)
}
