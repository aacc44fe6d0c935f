package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/internal/pattern"
)

// Bounds of the line's configuration. A batch beyond a few thousand tickets is
// claimed and settled in parts, because Redis serves nobody else meanwhile.
const (
	MaxBatch = 20_000
	MaxCap   = 10_000_000
)

// Config shapes the line of every sale and how it is drained.
type Config struct {
	// Cap is the most tickets of one line that wait, are with workers or are tried again, 1 to MaxCap. A sale may have
	// its own cap.
	Cap int `koanf:"cap"`
	// Batch is the most tickets that a worker claims at once of a long line, 1 to MaxBatch.
	Batch int `koanf:"batch"`
	// MaxWait is the longest that an order may wait, 1s to 1h. Caps then follow the measured drain rate. With 0, Cap
	// counts alone.
	MaxWait time.Duration `koanf:"max_wait"`
	// MinCap is the lower bound of a cap that follows the drain rate, 1 to Cap. It is the cap until a rate is known.
	MinCap int `koanf:"min_cap"`
	// Drain false lets workers claim nothing, and tickets wait.
	Drain bool `koanf:"drain"`
	// Held are sales whose lines workers leave alone, at most 1000.
	Held []string `koanf:"held"`
	// Sales are patterns of the only sales whose lines the workers of this process drain, as in path.Match. Defaults to
	// all.
	Sales []string `koanf:"sales"`
	// Lease is how long a worker may hold a batch before another takes it over, 2s to 10m.
	Lease time.Duration `koanf:"lease"`
	// MaxAttempts is how often a ticket may fail by itself, or by a worker that dies with it, 1 to 100.
	MaxAttempts int `koanf:"max_attempts"`
	// MaxCancels is how many orders of one sale one user may cancel before further ones are refused, at most 10,000.
	// 0 is no bound.
	MaxCancels int `koanf:"max_cancels"`
	// Backoff is the delay before the first retry, 1ms to 1m. It is doubled each time, up to a minute.
	Backoff time.Duration `koanf:"backoff"`
}

// DefaultConfig returns the configuration used where nothing is set.
func DefaultConfig() Config {
	return Config{Cap: 10_000, MinCap: 100, Batch: 20_000, Drain: true, Lease: 10 * time.Second, MaxAttempts: 5,
		MaxCancels: 10, Backoff: time.Second}
}

// Validate reports every value out of its bounds, by key.
func (c Config) Validate() error {
	var wait error
	if c.MaxWait != 0 {
		wait = errors.Join(between("queue.max_wait", c.MaxWait, time.Second, time.Hour),
			between("queue.min_cap", c.MinCap, 1, c.Cap))
	}
	return errors.Join(
		between("queue.cap", c.Cap, 1, MaxCap),
		wait,
		between("queue.held", len(c.Held), 0, 1000),
		pattern.Check("queue.sales", c.Sales),
		between("queue.batch", c.Batch, 1, MaxBatch),
		between("queue.lease", c.Lease, 2*time.Second, 10*time.Minute),
		between("queue.max_attempts", c.MaxAttempts, 1, 100),
		between("queue.max_cancels", c.MaxCancels, 0, 10_000),
		between("queue.backoff", c.Backoff, time.Millisecond, time.Minute),
	)
}

func between[T int | time.Duration](key string, got, low, high T) error {
	if got < low || got > high {
		return fmt.Errorf("%s must be between %v and %v, got %v", key, low, high, got)
	}
	return nil
}

// Settings are what a line has to know of its sale. Version orders them: an
// older one never overwrites a newer.
type Settings struct {
	Epoch    int64 // which loading of the line these belong to
	Version  int64
	State    string // draft, open, paused or closed
	StartsAt time.Time
	EndsAt   time.Time
	Cap      int
	Limit    int   // units one user may hold
	Total    int64 // units of the sale, sold ones included
	Ledger   int64 // newest change of the ledger when they were read; 0: not known
}

func (s Settings) args() []any {
	return []any{s.Epoch, s.Version, s.State, s.StartsAt.UnixMilli(), s.EndsAt.UnixMilli(), s.Cap, s.Limit, s.Total}
}

// Configure brings newer settings into the line; a changed total moves the
// stock by its difference. Returns ErrNotReady when the line is missing, is of
// another epoch, or is being rebuilt.
func (l *Line) Configure(ctx context.Context, s Settings) error {
	return checkReady(l.change(ctx, l.scripts.configure, []string{l.keys.meta, l.keys.stock},
		append(s.args(), l.stockChannel, l.sale, s.Ledger)...))
}

// SetCap changes the line's cap. Returns ErrNotReady when the line is missing,
// is of another epoch, or is being rebuilt.
func (l *Line) SetCap(ctx context.Context, epoch int64, tickets int) error {
	return checkReady(l.change(ctx, l.scripts.setCap, []string{l.keys.meta}, epoch, tickets))
}
