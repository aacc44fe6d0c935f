package message

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/delay"
)

// Counts says how many unfinished messages there are, by state.
type Counts struct{ Pending, Firing, Retrying, Dead int64 }

// Unfinished returns how many there are in all.
func (c Counts) Unfinished() int64 { return c.Pending + c.Firing + c.Retrying + c.Dead }

// Plus returns the sums.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Pending + o.Pending, c.Firing + o.Firing, c.Retrying + o.Retrying, c.Dead + o.Dead}
}

// Count counts the unfinished messages of subscriptions, in one round trip to each store. One that cannot be counted
// has an error of its own.
func (s *Store) Count(ctx context.Context, subs []delay.Subscription) ([]Counts, []error) {
	counts, failed := make([]Counts, len(subs)), make([]error, len(subs))
	s.eachPlace(subs, func(at *place, of []int) {
		pipe := at.Redis.Pipeline()
		lengths := make([][4]*redis.IntCmd, len(of))
		for n, i := range of {
			k := at.keysOf(subs[i])
			lengths[n] = [4]*redis.IntCmd{pipe.ZCard(ctx, k.due), pipe.ZCard(ctx, k.firing), pipe.ZCard(ctx, k.dead),
				pipe.HLen(ctx, k.tries)}
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for n, i := range of {
			l := lengths[n]
			if err := errors.Join(l[0].Err(), l[1].Err(), l[2].Err(), l[3].Err()); err != nil {
				failed[i] = fmt.Errorf("count the messages of %s: %w", subs[i].Title(), at.failed(err))
				continue
			}
			// Every message that is firing, retrying or dead has a try. The lengths are read at different moments, so
			// none may go below 0.
			retrying := max(l[3].Val()-l[1].Val()-l[2].Val(), 0)
			counts[i] = Counts{Pending: max(l[0].Val()-retrying, 0), Firing: l[1].Val(), Retrying: retrying,
				Dead: l[2].Val()}
		}
	}, func(i int, err error) { failed[i] = err })
	return counts, failed
}

// Missed returns how many messages each subscription had no room for, ever.
func (s *Store) Missed(ctx context.Context, subs []delay.Subscription) ([]int64, []error) {
	missed, failed := make([]int64, len(subs)), make([]error, len(subs))
	s.eachPlace(subs, func(at *place, of []int) {
		pipe := at.Redis.Pipeline()
		found := make([]*redis.StringCmd, len(of))
		for n, i := range of {
			found[n] = pipe.Get(ctx, at.keysOf(subs[i]).missed)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for n, i := range of {
			count, err := found[n].Int64()
			if err != nil && !errors.Is(err, redis.Nil) {
				failed[i] = fmt.Errorf("read what %s missed: %w", subs[i].Title(), at.failed(err))
			}
			missed[i] = count
		}
	}, func(i int, err error) { failed[i] = err })
	return missed, failed
}

// FirstToWarn reports whether no other process has told for a while that a subscription is filling up.
func (s *Store) FirstToWarn(ctx context.Context, sub delay.Subscription) (bool, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return false, err
	}
	first, err := at.Redis.SetNX(ctx, at.keysOf(sub).warned, "1", warnedFor).Result()
	return first, at.failed(err)
}

// Untold returns how many of the messages that a subscription missed no process has told of. Now they are.
func (s *Store) Untold(ctx context.Context, sub delay.Subscription, missed int64) (int64, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return 0, err
	}
	text, err := at.Redis.SetArgs(ctx, at.keysOf(sub).told, missed, redis.SetArgs{Get: true}).Result()
	if errors.Is(err, redis.Nil) {
		return missed, nil
	}
	if err != nil {
		return 0, at.failed(err)
	}
	before, err := strconv.ParseInt(text, 10, 64)
	return max(missed-before, 0), err
}

// warnedFor is how long no other process tells of the same.
const warnedFor = time.Hour
