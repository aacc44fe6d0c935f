package notify

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// StreamConfig names and bounds the event stream.
type StreamConfig struct {
	// Key is the Redis stream. Defaults to sluice:events.
	Key string `koanf:"key"`
	// MaxLen is about how many entries stay; Redis trims whole nodes, so a few more may. Defaults to 1,000,000.
	MaxLen int64 `koanf:"max_len"`
}

// DefaultStreamConfig holds the documented defaults.
func DefaultStreamConfig() StreamConfig {
	return StreamConfig{Key: "sluice:events", MaxLen: 1_000_000}
}

// Validate returns every bad value, each named by its configuration key.
func (c StreamConfig) Validate() error {
	var errs []error
	if c.Key == "" {
		errs = append(errs, errors.New("notify.stream.key: is empty, give the name of a Redis stream"))
	}
	if c.MaxLen < 1 {
		errs = append(errs, errors.New("notify.stream.max_len: use 1 or more"))
	}
	return errors.Join(errs...)
}

// Stream is the channel "stream": the log of order events for other systems, a bounded Redis stream.
//
// Each entry has the fields id, order, sale, user, event and at (unix milliseconds); never an e-mail address or phone number.
// An event may appear more than once, always with the same id, and events of different orders in any sequence.
type Stream struct {
	cfg StreamConfig
	rdb redis.UniversalClient
}

// NewStream does not use rdb before the first delivery and never closes it.
func NewStream(cfg StreamConfig, rdb redis.UniversalClient) *Stream {
	return &Stream{cfg: cfg, rdb: rdb}
}

// Name is "stream".
func (s *Stream) Name() string { return "stream" }

// Deliver appends the batch in one round trip. Every failure is worth a retry, for none lies in the message.
func (s *Stream) Deliver(ctx context.Context, messages []Message) []Result {
	results := make([]Result, len(messages))
	commands := make([]*redis.StringCmd, len(messages))
	// The pipeline's own error is that of its first failed command; each command is judged below.
	_, _ = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, m := range messages {
			commands[i] = pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.cfg.Key, MaxLen: s.cfg.MaxLen, Approx: true, Values: entry(m)})
		}
		return nil
	})
	for i, cmd := range commands {
		results[i] = Delivered()
		if err := cmd.Err(); err != nil {
			results[i] = Retry("redis: " + err.Error())
		}
	}
	return results
}

func entry(m Message) []any {
	return []any{"id", m.ID(), "order", m.OrderID, "sale", m.SaleID, "user", m.UserID, "event", m.Event, "at", m.CreatedAt.UnixMilli()}
}
