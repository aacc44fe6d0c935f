package delay

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Store keeps the messages of all subscriptions in Redis. It does not know which exist. Safe for concurrent use.
type Store struct {
	cfg     Config
	rdb     redis.UniversalClient
	prefix  string
	scripts scripts
	durable func() error
	now     func() time.Time
}

// StoreParts is what NewStore needs.
type StoreParts struct {
	Config  Config
	Redis   redis.UniversalClient // not used before the first call, and never closed
	Prefix  string                // redis.prefix: begins every key
	Durable func() error          // called before messages are added: an error refuses them
	Now     func() time.Time      // only bounds how far away a due time may be
}

// NewStore returns a store of messages.
func NewStore(p StoreParts) *Store {
	return &Store{cfg: p.Config, rdb: p.Redis, prefix: p.Prefix, scripts: loadScripts(), durable: p.Durable, now: p.Now}
}

func (s *Store) keysOf(sub Subscription) keys { return subscriptionKeys(s.prefix, sub) }

func (s *Store) topicKeys(topic string) topicKeys { return keysOfTopic(s.prefix, topic) }

// goneFor is how long a deleted topic takes no messages. By then every process has refreshed its topics.
const goneFor = time.Minute

// Show returns one message, or ErrNoMessage.
func (s *Store) Show(ctx context.Context, sub Subscription, id string) (Message, error) {
	found, err := s.show(ctx, sub, []string{id})
	switch {
	case err != nil:
		return Message{}, err
	case len(found) == 0:
		return Message{}, fmt.Errorf("message %s of %s: %w", id, sub.Title(), ErrNoMessage)
	}
	return found[0], found[0].readErr
}

// show returns the messages that exist, even those whose record cannot be read.
func (s *Store) show(ctx context.Context, sub Subscription, ids []string) ([]Message, error) {
	k := s.keysOf(sub)
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	reply, err := s.scripts.show.RunList(ctx, s.rdb, []string{k.due, k.firing, k.messages, k.tries, k.dead}, args...)
	if err != nil {
		return nil, err
	}
	var found []Message
	for i, id := range ids {
		part := func(n int) string { return reply[4*i+n].(string) }
		if part(0) == "" {
			continue
		}
		found = append(found, readMessage(sub, id, shownMessage{part(0), part(1), part(2), part(3)}))
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or
// ErrNotWaiting.
func (s *Store) Cancel(ctx context.Context, sub Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.cancel.RunList(ctx, s.rdb, []string{k.due, k.messages, k.tries, k.done}, id, s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: ErrNoMessage, -1: ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (s *Store) DeadLetters(ctx context.Context, sub Subscription, skip, limit int64) ([]Message, error) {
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
func (s *Store) Retry(ctx context.Context, sub Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.retry.RunList(ctx, s.rdb, []string{k.due, k.dead, k.tries}, id)
	return replyError(reply, err, sub, id, map[int64]error{0: ErrNotDead})
}

// Drop gives up a dead letter. It returns ErrNotDead when it is none.
func (s *Store) Drop(ctx context.Context, sub Subscription, id string) error {
	k := s.keysOf(sub)
	reply, err := s.scripts.drop.RunList(ctx, s.rdb, []string{k.dead, k.messages, k.tries, k.done}, id, s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: ErrNotDead})
}

// forget removes a topic's keys, or returns ErrTopicInUse.
func (s *Store) forget(ctx context.Context, topic string) error {
	k, of := s.keysOf(ownOf(topic)), s.topicKeys(topic)
	reply, err := s.scripts.forget.RunList(ctx, s.rdb, []string{k.messages, k.done, k.tries, of.gone, of.version},
		goneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", topic, reply[0], ErrTopicInUse)
	}
	return err
}

// erase removes all messages of a subscription, and returns how many unfinished ones there are. Where they are not to
// be given up, they keep everything.
func (s *Store) erase(ctx context.Context, sub Subscription, giveUp bool) (unfinished int64, err error) {
	k, give := s.keysOf(sub), 0
	if giveUp {
		give = 1
	}
	reply, err := s.scripts.erase.RunList(ctx, s.rdb, []string{k.messages, k.done, k.tries, k.due, k.firing, k.dead,
		k.missed, k.warned, k.told}, give)
	if err != nil {
		return 0, err
	}
	return reply[0].(int64), nil
}

// unused returns an error that wraps inUse while a subscription has unfinished messages.
func (s *Store) unused(ctx context.Context, sub Subscription, inUse error) error {
	counts, failed := s.Count(ctx, []Subscription{sub})
	if failed[0] != nil {
		return failed[0]
	}
	if n := counts[0].Unfinished(); n > 0 {
		return fmt.Errorf("%s has %d: %w", sub.Title(), n, inUse)
	}
	return nil
}

// reopen lets a topic that was deleted just before take messages again.
func (s *Store) reopen(ctx context.Context, topic string) error {
	if err := s.rdb.Del(ctx, s.topicKeys(topic).gone).Err(); err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	return nil
}

// replyError turns the number that a script returned into an error: errs maps it, 1 is success.
func replyError(reply []any, err error, sub Subscription, id string, errs map[int64]error) error {
	if err != nil {
		return err
	}
	if err := errs[reply[0].(int64)]; err != nil {
		return fmt.Errorf("message %s of %s: %w", id, sub.Title(), err)
	}
	return nil
}
