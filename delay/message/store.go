// Package message keeps the messages of subscriptions in Redis, from their birth to their end.
//
// Store is the one place that calls the scripts. It takes what it is told to of which topics and subscriptions, and
// knows neither receivers nor readers. These claim from it and settle there: see push and pull.
package message

import (
	"context"
	"fmt"
	"time"

	"sluice/delay"

	"github.com/redis/go-redis/v9"
)

// Store keeps the messages of all subscriptions in Redis. It does not know which exist. Safe for concurrent use.
type Store struct {
	cfg     delay.Config
	rdb     redis.UniversalClient
	prefix  string
	scripts scripts
	durable func() error
	now     func() time.Time
}

// StoreParts is what NewStore needs.
type StoreParts struct {
	Config  delay.Config
	Redis   redis.UniversalClient // not used before the first call, and never closed
	Prefix  string                // redis.prefix: begins every key
	Durable func() error          // called before messages are added: an error refuses them
	Now     func() time.Time      // only bounds how far away a due time may be
}

// NewStore returns a store of messages.
func NewStore(p StoreParts) *Store {
	return &Store{cfg: p.Config, rdb: p.Redis, prefix: p.Prefix, scripts: loadScripts(), durable: p.Durable, now: p.Now}
}

func (s *Store) keysOf(sub delay.Subscription) keys { return subscriptionKeys(s.prefix, sub) }

func (s *Store) topicKeys(topic string) topicKeys { return keysOfTopic(s.prefix, topic) }

// Show returns one message, or ErrNoMessage.
func (s *Store) Show(ctx context.Context, sub delay.Subscription, id string) (delay.Message, error) {
	found, err := s.show(ctx, sub, []string{id})
	switch {
	case err != nil:
		return delay.Message{}, err
	case len(found) == 0:
		return delay.Message{}, fmt.Errorf("message %s of %s: %w", id, sub.Title(), delay.ErrNoMessage)
	}
	return found[0], found[0].ReadErr
}

// show returns the messages that exist, even those whose record cannot be read.
func (s *Store) show(ctx context.Context, sub delay.Subscription, ids []string) ([]delay.Message, error) {
	k := s.keysOf(sub)
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	reply, err := s.scripts.show.RunList(ctx, s.rdb, []string{k.due, k.firing, k.messages, k.tries, k.dead,
		k.about}, args...)
	if err != nil {
		return nil, err
	}
	var found []delay.Message
	for i, id := range ids {
		part := func(n int) string { return reply[5*i+n].(string) }
		if part(0) == "" {
			continue
		}
		found = append(found, readMessage(sub, id, shownMessage{part(0), part(1), part(2), part(3), part(4)}))
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or
// ErrNotWaiting.
func (s *Store) Cancel(ctx context.Context, sub delay.Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.cancel.RunList(ctx, s.rdb, []string{k.due, k.messages, k.tries, k.done, k.about}, id,
		s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNoMessage, -1: delay.ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (s *Store) DeadLetters(ctx context.Context, sub delay.Subscription, skip, limit int64) ([]delay.Message, error) {
	ids, err := s.rdb.ZRevRange(ctx, s.keysOf(sub).dead, skip, skip+limit-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters of %s: %w", sub.Title(), err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.show(ctx, sub, ids)
}

// Retry makes a dead letter due now, with no attempt counted. It returns ErrNotDead when it is none.
func (s *Store) Retry(ctx context.Context, sub delay.Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.retry.RunList(ctx, s.rdb, []string{k.due, k.dead, k.tries}, id, s.soonChannel(), sub.Topic)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNotDead})
}

// Drop gives up a dead letter. It returns ErrNotDead when it is none.
func (s *Store) Drop(ctx context.Context, sub delay.Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.drop.RunList(ctx, s.rdb, []string{k.dead, k.messages, k.tries, k.done, k.about}, id,
		s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNotDead})
}

// replyError turns the number that a script returned into an error: errs maps it, 1 is success.
func replyError(reply []any, err error, sub delay.Subscription, id string, errs map[int64]error) error {
	if err != nil {
		return err
	}
	if err := errs[reply[0].(int64)]; err != nil {
		return fmt.Errorf("message %s of %s: %w", id, sub.Title(), err)
	}
	return nil
}
