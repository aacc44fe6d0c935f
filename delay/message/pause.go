package message

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/delay"
)

// pauseStands is how long a pause is shown after a deliverer has last told of it: it may have died.
const pauseStands = 10 * time.Second

// Pause says why a subscription's receiver is left alone and until when; the zero Pause that it is called.
type Pause struct {
	Until time.Time // by the clock of the deliverer
	Why   string
}

// TellPause lets others see a pause of a subscription's receiver for the next ten seconds. The zero Pause ends it.
func (s *Store) TellPause(ctx context.Context, sub delay.Subscription, p Pause) error {
	key := s.keysOf(sub).paused
	if p.Until.IsZero() {
		return s.rdb.Del(ctx, key).Err()
	}
	text := strconv.FormatInt(p.Until.UnixMilli(), 10) + "\t" + storable(p.Why)
	return s.rdb.Set(ctx, key, text, pauseStands).Err()
}

// Pauses returns the pauses of subscriptions' receivers, in one round trip.
func (s *Store) Pauses(ctx context.Context, subs []delay.Subscription) ([]Pause, []error) {
	pipe := s.rdb.Pipeline()
	found := make([]*redis.StringCmd, len(subs))
	for i, sub := range subs {
		found[i] = pipe.Get(ctx, s.keysOf(sub).paused)
	}
	if len(subs) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	pauses, failed := make([]Pause, len(subs)), make([]error, len(subs))
	for i, one := range found {
		text, err := one.Result()
		if err != nil {
			if !errors.Is(err, redis.Nil) {
				failed[i] = fmt.Errorf("read the pause of %s: %w", subs[i].Title(), err)
			}
			continue
		}
		ms, why, _ := strings.Cut(text, "\t")
		pauses[i] = Pause{Until: parseMillis(ms), Why: why}
	}
	return pauses, failed
}
