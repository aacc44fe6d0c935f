package delay

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Box holds the messages of all topics in Redis. It does not know which topics there are. Safe for concurrent use.
type Box struct {
	cfg     Config
	rdb     redis.UniversalClient
	prefix  string
	scripts scripts
	durable func() error
	now     func() time.Time
}

// NewBox does not use rdb before the first call and never closes it. prefix, redis.prefix, begins every key. durable is asked before messages are taken: an error
// refuses them. now only bounds how far away a due time may be.
func NewBox(cfg Config, rdb redis.UniversalClient, prefix string, durable func() error, now func() time.Time) *Box {
	return &Box{cfg: cfg, rdb: rdb, prefix: prefix, scripts: loadScripts(), durable: durable, now: now}
}

func (b *Box) keysOf(topic string) keys { return topicKeys(b.prefix, topic) }

// goneFor is how long a deleted topic takes no messages: by then no process believes in it any more.
const goneFor = time.Minute

// Add takes 1 to 1,000 messages, all or none, and returns when each is due by Redis' clock. It may be repeated: a message that is
// known with the same body is left as it is and its first answer given again. It returns an invalid.Error, or an error that wraps
// ErrConflict, ErrFull or ErrNoTopic. When it returns nil the messages are in Redis, as durable as Redis is.
func (b *Box) Add(ctx context.Context, topic string, messages []New) ([]time.Time, error) {
	if err := checkNew(messages, b.cfg, b.now()); err != nil {
		return nil, err
	}
	if err := b.durable(); err != nil {
		return nil, err
	}
	k := b.keysOf(topic)
	args := make([]any, 1, 1+4*len(messages))
	args[0] = b.cfg.MaxMessages
	for _, m := range messages {
		kind, ms := "d", m.Delay.Milliseconds()
		if !m.At.IsZero() {
			kind, ms = "a", m.At.UnixMilli()
		}
		args = append(args, m.ID, kind, ms, m.Body)
	}
	reply, err := b.scripts.add.run(ctx, b.rdb, []string{k.due, k.messages, k.done, k.gone}, args...)
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
		due[i] = millis(reply[i+1].(string))
	}
	return due, nil
}

// Show returns one message, or ErrNoMessage.
func (b *Box) Show(ctx context.Context, topic, id string) (Message, error) {
	found, err := b.show(ctx, topic, []string{id})
	switch {
	case err != nil:
		return Message{}, err
	case len(found) == 0:
		return Message{}, fmt.Errorf("message %s of topic %s: %w", id, topic, ErrNoMessage)
	}
	return found[0], found[0].unread
}

// show returns those of ids that are known, also those whose record cannot be read.
func (b *Box) show(ctx context.Context, topic string, ids []string) ([]Message, error) {
	k := b.keysOf(topic)
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	reply, err := b.scripts.show.run(ctx, b.rdb, []string{k.due, k.firing, k.messages, k.tries, k.dead}, args...)
	if err != nil {
		return nil, err
	}
	var found []Message
	for i, id := range ids {
		part := func(n int) string { return reply[4*i+n].(string) }
		if part(0) == "" {
			continue
		}
		found = append(found, readMessage(topic, id, part(0), part(1), part(2), part(3)))
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or ErrNotWaiting.
func (b *Box) Cancel(ctx context.Context, topic, id string) error {
	k := b.keysOf(topic)
	reply, err := b.scripts.cancel.run(ctx, b.rdb, []string{k.due, k.messages, k.tries, k.done}, id, b.cfg.Keep)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNoMessage, -1: ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (b *Box) DeadLetters(ctx context.Context, topic string, skip, limit int64) ([]Message, error) {
	ids, err := b.rdb.ZRevRange(ctx, b.keysOf(topic).dead, skip, skip+limit-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters of topic %s: %w", topic, err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return b.show(ctx, topic, ids)
}

// Retry gives a dead letter a new life, due now, its attempts forgotten; ErrNotDead when it is none.
func (b *Box) Retry(ctx context.Context, topic, id string) error {
	k := b.keysOf(topic)
	reply, err := b.scripts.retry.run(ctx, b.rdb, []string{k.due, k.dead, k.tries}, id)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// Drop forgets a dead letter; ErrNotDead when it is none.
func (b *Box) Drop(ctx context.Context, topic, id string) error {
	k := b.keysOf(topic)
	reply, err := b.scripts.drop.run(ctx, b.rdb, []string{k.dead, k.messages, k.tries, k.done}, id, b.cfg.Keep)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// forget removes a topic's keys, or returns ErrTopicInUse.
func (b *Box) forget(ctx context.Context, topic string) error {
	k := b.keysOf(topic)
	reply, err := b.scripts.forget.run(ctx, b.rdb, []string{k.messages, k.done, k.tries, k.gone}, goneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", topic, reply[0], ErrTopicInUse)
	}
	return err
}

// revive lets a topic take messages that was deleted just before.
func (b *Box) revive(ctx context.Context, topic string) error {
	if err := b.rdb.Del(ctx, b.keysOf(topic).gone).Err(); err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	return nil
}

// answer turns a script's one number into an error.
func answer(reply []any, err error, topic, id string, errs map[int64]error) error {
	if err != nil {
		return err
	}
	if err := errs[reply[0].(int64)]; err != nil {
		return fmt.Errorf("message %s of topic %s: %w", id, topic, err)
	}
	return nil
}
