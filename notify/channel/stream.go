package channel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/notify"
	"sluice/notify/form"
)

// StreamConfig names and bounds the event stream.
type StreamConfig struct {
	// Key is the Redis stream. Empty, the default, means redis.prefix and events: sluice:events.
	Key string `koanf:"key"`
	// MaxLen is about how many entries stay: Redis trims whole nodes, so there may be a few more. Defaults to
	// 1,000,000.
	MaxLen int64 `koanf:"max_len"`
	// Keep is the age, by Redis' clock, from which new entries push an entry out. Defaults to 168h; 0: any age.
	Keep time.Duration `koanf:"keep"`
}

// DefaultStreamConfig returns the documented defaults.
func DefaultStreamConfig() StreamConfig {
	return StreamConfig{MaxLen: 1_000_000, Keep: 7 * 24 * time.Hour}
}

// Behind returns c with its key set: without one, to prefix and events.
func (c StreamConfig) Behind(prefix string) StreamConfig {
	c.Key = cmp.Or(c.Key, prefix+":events")
	return c
}

// Validate returns every bad value, each named by its configuration key.
func (c StreamConfig) Validate() error {
	var errs []error
	if c.MaxLen < 1 {
		errs = append(errs, errors.New("notify.stream.max_len: use 1 or more"))
	}
	if c.Keep < 0 || c.Keep > 0 && c.Keep < time.Minute {
		errs = append(errs, errors.New("notify.stream.keep: use 0 or at least 1m"))
	}
	return errors.Join(errs...)
}

// Stream is the channel "stream": the log of order events for other systems, a bounded Redis stream.
//
// Each entry has the fields id, order, sale, user, event and at (unix milliseconds), and those of form.Fields. It never
// contains an e-mail address or phone number. An event may appear more than once, always with the same id. Events of
// different orders have no fixed sequence.
type Stream struct {
	cfg     StreamConfig
	rdb     redis.UniversalClient
	ledger  notify.Ledger
	trimmed atomic.Int64 // entries up to this time were dropped, unix ms
}

// NewStream returns a stream that appends to cfg.Key, which must be set: see Behind. It does not use rdb before the
// first delivery and never closes it. A stream that is only read needs no ledger.
func NewStream(cfg StreamConfig, rdb redis.UniversalClient, ledger notify.Ledger) *Stream {
	return &Stream{cfg: cfg, rdb: rdb, ledger: ledger}
}

// Name returns "stream".
func (s *Stream) Name() string { return "stream" }

// Width returns 10: a delivery is one round trip, and two transactions, however many events it holds.
func (s *Stream) Width() int { return 10 }

// Deliver appends the batch in one round trip. Every failure is worth a retry, because none depends on the message.
func (s *Stream) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	results := make([]notify.Result, len(messages))
	orders, err := s.ledger(ctx, orderIDs(messages))
	if err != nil {
		for i := range results {
			results[i] = notify.Hold(lookUpPause, "the order could not be looked up")
		}
		return results
	}
	commands := make([]*redis.StringCmd, len(messages))
	// The pipeline's own error is that of its first failed command; each command is classified below.
	_, _ = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, m := range messages {
			commands[i] = pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.cfg.Key, MaxLen: s.cfg.MaxLen, Approx: true,
				Values: form.Fields(m, form.In(orders, m))})
		}
		return nil
	})
	for i, cmd := range commands {
		results[i] = notify.Delivered()
		if err := cmd.Err(); err != nil {
			results[i] = notify.Retry("redis: " + err.Error())
			continue
		}
		s.trim(ctx, cmd.Val())
	}
	return results
}

// trimEvery bounds how often old entries are dropped, which costs one more command to Redis.
const trimEvery = time.Minute

// trim drops entries that are too old. It takes Redis' time from the id of the entry just written. After a failure the
// next trim drops them.
func (s *Stream) trim(ctx context.Context, id string) {
	ms, _, _ := strings.Cut(id, "-")
	now, err := strconv.ParseInt(ms, 10, 64)
	if err != nil || s.cfg.Keep == 0 {
		return
	}
	oldest, done := now-s.cfg.Keep.Milliseconds(), s.trimmed.Load()
	if oldest-done < trimEvery.Milliseconds() || !s.trimmed.CompareAndSwap(done, oldest) {
		return
	}
	s.rdb.XTrimMinID(ctx, s.cfg.Key, strconv.FormatInt(oldest, 10))
}

// Entry is one entry of the stream.
type Entry struct {
	ID     string // of the entry; later ones compare greater
	Fields map[string]any
}

// Last returns the id of the newest entry, or "0-0" when there is none.
func (s *Stream) Last(ctx context.Context) (string, error) {
	newest, err := s.rdb.XRevRangeN(ctx, s.cfg.Key, "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the event stream %s: %w", s.cfg.Key, err)
	}
	if len(newest) == 0 {
		return "0-0", nil
	}
	return newest[0].ID, nil
}

// After returns up to n entries that follow id, oldest first. It does not wait for new ones.
func (s *Stream) After(ctx context.Context, id string, n int64) ([]Entry, error) {
	found, err := s.rdb.XRangeN(ctx, s.cfg.Key, "("+id, "+", n).Result()
	if err != nil {
		return nil, fmt.Errorf("read the event stream %s after %s: %w", s.cfg.Key, id, err)
	}
	entries := make([]Entry, len(found))
	for i, e := range found {
		entries[i] = Entry{ID: e.ID, Fields: e.Values}
	}
	return entries, nil
}
