package delay

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Store keeps the messages of all topics in Redis. It does not know which topics exist. Safe for concurrent use.
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

func (s *Store) keysOf(topic string) keys { return topicKeys(s.prefix, topic) }

// goneFor is how long a deleted topic takes no messages. By then every process has refreshed its topics.
const goneFor = time.Minute

// Add takes 1 to 1,000 messages, all or none, and returns when each is due by Redis' clock. It may be repeated. A
// message that was added before with the same body stays as it is; Add returns its first due time. It returns an
// invalid.Error, or an error that wraps ErrConflict, ErrFull or ErrNoTopic. When it returns nil the messages are as
// durable as Redis is.
func (s *Store) Add(ctx context.Context, topic string, messages []New) ([]time.Time, error) {
	if err := checkNew(messages, s.cfg, s.now()); err != nil {
		return nil, err
	}
	if err := s.durable(); err != nil {
		return nil, err
	}
	k := s.keysOf(topic)
	args := make([]any, 1, 1+4*len(messages))
	args[0] = s.cfg.MaxMessages
	for _, m := range messages {
		kind, ms := "d", m.Delay.Milliseconds()
		if !m.At.IsZero() {
			kind, ms = "a", m.At.UnixMilli()
		}
		args = append(args, m.ID, kind, ms, m.Body)
	}
	reply, err := s.scripts.add.RunList(ctx, s.rdb, []string{k.due, k.messages, k.done, k.gone}, args...)
	if err != nil {
		return nil, err
	}
	switch reply[0].(int64) {
	case -1:
		id := messages[reply[1].(int64)-1].ID
		return nil, fmt.Errorf("message %s of topic %s: %w", id, topic, ErrConflict)
	case -2:
		return nil, fmt.Errorf("topic %s: %w", topic, ErrFull)
	case -3:
		return nil, fmt.Errorf("topic %s: %w", topic, ErrNoTopic)
	}
	due := make([]time.Time, len(messages))
	for i := range due {
		due[i] = parseMillis(reply[i+1].(string))
	}
	return due, nil
}

// Show returns one message, or ErrNoMessage.
func (s *Store) Show(ctx context.Context, topic, id string) (Message, error) {
	found, err := s.show(ctx, topic, []string{id})
	switch {
	case err != nil:
		return Message{}, err
	case len(found) == 0:
		return Message{}, fmt.Errorf("message %s of topic %s: %w", id, topic, ErrNoMessage)
	}
	return found[0], found[0].readErr
}

// show returns the messages that exist, even those whose record cannot be read.
func (s *Store) show(ctx context.Context, topic string, ids []string) ([]Message, error) {
	k := s.keysOf(topic)
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
		found = append(found, readMessage(topic, id, shownMessage{part(0), part(1), part(2), part(3)}))
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or
// ErrNotWaiting.
func (s *Store) Cancel(ctx context.Context, topic, id string) error {
	k := s.keysOf(topic)
	reply, err := s.scripts.cancel.RunList(ctx, s.rdb, []string{k.due, k.messages, k.tries, k.done}, id, s.cfg.Keep)
	return replyError(reply, err, topic, id, map[int64]error{0: ErrNoMessage, -1: ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (s *Store) DeadLetters(ctx context.Context, topic string, skip, limit int64) ([]Message, error) {
	ids, err := s.rdb.ZRevRange(ctx, s.keysOf(topic).dead, skip, skip+limit-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters of topic %s: %w", topic, err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.show(ctx, topic, ids)
}

// Retry makes a dead letter due now, with no attempt counted. It returns ErrNotDead when it is none.
func (s *Store) Retry(ctx context.Context, topic, id string) error {
	k := s.keysOf(topic)
	reply, err := s.scripts.retry.RunList(ctx, s.rdb, []string{k.due, k.dead, k.tries}, id)
	return replyError(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// Drop gives up a dead letter. It returns ErrNotDead when it is none.
func (s *Store) Drop(ctx context.Context, topic, id string) error {
	k := s.keysOf(topic)
	reply, err := s.scripts.drop.RunList(ctx, s.rdb, []string{k.dead, k.messages, k.tries, k.done}, id, s.cfg.Keep)
	return replyError(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// forget removes a topic's keys, or returns ErrTopicInUse.
func (s *Store) forget(ctx context.Context, topic string) error {
	k := s.keysOf(topic)
	reply, err := s.scripts.forget.RunList(ctx, s.rdb, []string{k.messages, k.done, k.tries, k.gone},
		goneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", topic, reply[0], ErrTopicInUse)
	}
	return err
}

// reopen lets a topic that was deleted just before take messages again.
func (s *Store) reopen(ctx context.Context, topic string) error {
	if err := s.rdb.Del(ctx, s.keysOf(topic).gone).Err(); err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	return nil
}

// replyError turns the number that a script returned into an error: errs maps it, 1 is success.
func replyError(reply []any, err error, topic, id string, errs map[int64]error) error {
	if err != nil {
		return err
	}
	if err := errs[reply[0].(int64)]; err != nil {
		return fmt.Errorf("message %s of topic %s: %w", id, topic, err)
	}
	return nil
}

// keys names what one topic has in Redis. The names share one hash tag, so every script of the topic runs in one slot
// of a cluster.
type keys struct {
	due      string // sorted set: id → when to fire next in ms: pending and retrying messages
	firing   string // sorted set: id → when its lease ends in ms
	messages string // hash: id → record
	tries    string // hash: id → attempts, lease token and last error of messages that are firing, retrying or dead
	dead     string // sorted set: id → when it died in ms
	done     string // list of finished ids whose records are kept, newest first
	gone     string // present for a while after the topic was deleted: no messages are added
}

func topicKeys(prefix, topic string) keys {
	prefix += ":delay:{" + topic + "}:"
	return keys{due: prefix + "due", firing: prefix + "firing", messages: prefix + "messages", tries: prefix + "tries",
		dead: prefix + "dead", done: prefix + "done", gone: prefix + "gone"}
}
