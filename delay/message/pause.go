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
	at, err := s.at(sub.Store)
	if err != nil {
		return err
	}
	key := at.keysOf(sub).paused
	if p.Until.IsZero() {
		return at.failed(at.Redis.Del(ctx, key).Err())
	}
	text := strconv.FormatInt(p.Until.UnixMilli(), 10) + "\t" + storable(p.Why)
	return at.failed(at.Redis.Set(ctx, key, text, pauseStands).Err())
}

// Pauses returns the pauses of subscriptions' receivers, in one round trip to each store.
func (s *Store) Pauses(ctx context.Context, subs []delay.Subscription) ([]Pause, []error) {
	pauses, failed := make([]Pause, len(subs)), make([]error, len(subs))
	s.eachPlace(subs, func(at *place, of []int) {
		pipe := at.Redis.Pipeline()
		found := make([]*redis.StringCmd, len(of))
		for n, i := range of {
			found[n] = pipe.Get(ctx, at.keysOf(subs[i]).paused)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for n, i := range of {
			text, err := found[n].Result()
			if err != nil {
				if !errors.Is(err, redis.Nil) {
					failed[i] = fmt.Errorf("read the pause of %s: %w", subs[i].Title(), at.failed(err))
				}
				continue
			}
			ms, why, _ := strings.Cut(text, "\t")
			pauses[i] = Pause{Until: parseMillis(ms), Why: why}
		}
	}, func(i int, err error) { failed[i] = err })
	return pauses, failed
}
