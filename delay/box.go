package delay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Box holds the messages of all topics in Redis. It does not know which topics there are. Safe for concurrent use.
type Box struct {
	cfg     Config
	rdb     redis.UniversalClient
	scripts scripts
	durable func() error
	now     func() time.Time
}

// NewBox does not use rdb before the first call and never closes it. durable is asked before messages are taken: an error
// refuses them. now only bounds how far away a due time may be.
func NewBox(cfg Config, rdb redis.UniversalClient, durable func() error, now func() time.Time) *Box {
	return &Box{cfg: cfg, rdb: rdb, scripts: loadScripts(), durable: durable, now: now}
}

// goneFor is how long a deleted topic takes no messages: by then no process believes in it any more.
const goneFor = time.Minute

// Add takes 1 to 1,000 messages, all or none, and returns when each is due by Redis' clock. It may be repeated: a message that is
// known with the same body is left as it is and its first answer given again. It returns an InvalidError, or an error that wraps
// ErrConflict, ErrFull or ErrNoTopic. When it returns nil the messages are in Redis, as durable as Redis is.
func (b *Box) Add(ctx context.Context, topic string, messages []New) ([]time.Time, error) {
	if err := checkNew(messages, b.cfg, b.now()); err != nil {
		return nil, err
	}
	if err := b.durable(); err != nil {
		return nil, err
	}
	k := topicKeys(topic)
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
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("message %s of topic %s: %w", id, topic, ErrNoMessage)
	}
	if err != nil {
		return Message{}, err
	}
	return found[0], nil
}

// show returns those of ids that are known.
func (b *Box) show(ctx context.Context, topic string, ids []string) ([]Message, error) {
	k := topicKeys(topic)
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
		m, err := readMessage(topic, id, part(0), part(1), part(2), part(3))
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or ErrNotWaiting.
func (b *Box) Cancel(ctx context.Context, topic, id string) error {
	k := topicKeys(topic)
	reply, err := b.scripts.cancel.run(ctx, b.rdb, []string{k.due, k.messages, k.tries, k.done}, id, b.cfg.Keep)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNoMessage, -1: ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (b *Box) DeadLetters(ctx context.Context, topic string, skip, limit int64) ([]Message, error) {
	ids, err := b.rdb.ZRevRange(ctx, topicKeys(topic).dead, skip, skip+limit-1).Result()
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
	k := topicKeys(topic)
	reply, err := b.scripts.retry.run(ctx, b.rdb, []string{k.due, k.dead, k.tries}, id)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// Drop forgets a dead letter; ErrNotDead when it is none.
func (b *Box) Drop(ctx context.Context, topic, id string) error {
	k := topicKeys(topic)
	reply, err := b.scripts.drop.run(ctx, b.rdb, []string{k.dead, k.messages, k.tries, k.done}, id, b.cfg.Keep)
	return answer(reply, err, topic, id, map[int64]error{0: ErrNotDead})
}

// forget removes a topic's keys, or returns ErrTopicInUse.
func (b *Box) forget(ctx context.Context, topic string) error {
	k := topicKeys(topic)
	reply, err := b.scripts.forget.run(ctx, b.rdb, []string{k.messages, k.done, k.tries, k.gone}, goneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", topic, reply[0], ErrTopicInUse)
	}
	return err
}

// revive lets a topic take messages that was deleted just before.
func (b *Box) revive(ctx context.Context, topic string) error {
	if err := b.rdb.Del(ctx, topicKeys(topic).gone).Err(); err != nil {
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

// head is the first due time of a topic.
type head struct {
	topic Topic
	wait  time.Duration // until then; 0 or less is due
	none  bool
}

// heads looks at the first message of every topic in one round trip.
func (b *Box) heads(ctx context.Context, topics []Topic) ([]head, error) {
	pipe := b.rdb.Pipeline()
	clock := pipe.Time(ctx)
	firsts := make([]*redis.ZSliceCmd, len(topics))
	for i, t := range topics {
		firsts[i] = pipe.ZRangeWithScores(ctx, topicKeys(t.Name).due, 0, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("look for due messages of %d topics: %w", len(topics), err)
	}
	now := clock.Val().UnixMilli()
	heads := make([]head, len(topics))
	for i, t := range topics {
		heads[i] = head{topic: t, none: len(firsts[i].Val()) == 0}
		if !heads[i].none {
			heads[i].wait = time.Duration(int64(firsts[i].Val()[0].Score)-now) * time.Millisecond
		}
	}
	return heads, nil
}

// claim leases up to most due messages.
func (b *Box) claim(ctx context.Context, topic string, most int) ([]delivery, error) {
	k, token := topicKeys(topic), rand.Text()[:16]
	reply, err := b.scripts.claim.run(ctx, b.rdb, []string{k.due, k.firing, k.messages, k.tries}, most, b.cfg.Lease.Milliseconds(), token)
	if err != nil {
		return nil, err
	}
	now := millis(reply[0].(string)).UnixMilli()
	var claimed []delivery
	for i := 1; i+3 < len(reply); i += 4 {
		attempt, err1 := strconv.Atoi(reply[i+1].(string))
		due, err2 := strconv.ParseFloat(reply[i+2].(string), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("claim messages of topic %s: %w", topic, err)
		}
		claimed = append(claimed, delivery{ID: reply[i].(string), Attempt: attempt, Due: int64(due), Body: []byte(reply[i+3].(string)),
			token: token, lateness: time.Duration(now-int64(due)) * time.Millisecond})
	}
	return claimed, nil
}

// settle stores up to 1,000 outcomes and reports which were stored; the others were fenced.
func (b *Box) settle(ctx context.Context, topic string, outcomes []verdict) ([]bool, error) {
	k := topicKeys(topic)
	args := make([]any, 1, 1+5*len(outcomes))
	args[0] = b.cfg.Keep
	for _, o := range outcomes {
		args = append(args, o.ID, o.token, string(o.op), o.value, storable(o.err))
	}
	reply, err := b.scripts.settle.run(ctx, b.rdb, []string{k.due, k.firing, k.messages, k.tries, k.dead, k.done}, args...)
	if err != nil {
		return nil, err
	}
	stored := make([]bool, len(outcomes))
	for i := range stored {
		stored[i] = reply[i].(int64) == 1
	}
	return stored, nil
}

const unreported = "the last attempt began but its result was never stored"

// reclaim takes over up to 1,000 messages whose lease has run out. It returns how many are due again and how many died, and one
// of the dead.
func (b *Box) reclaim(ctx context.Context, t Topic) (again, dead int64, id string, err error) {
	k := topicKeys(t.Name)
	reply, err := b.scripts.reclaim.run(ctx, b.rdb, []string{k.due, k.firing, k.tries, k.dead}, maxBatch, t.Retries+1, unreported)
	if err != nil {
		return 0, 0, "", err
	}
	return reply[0].(int64), reply[1].(int64), reply[2].(string), nil
}

// Counts is how many unfinished messages a topic has, by state.
type Counts struct{ Pending, Firing, Retrying, Dead int64 }

// Count counts the unfinished messages of topics in one round trip.
func (b *Box) Count(ctx context.Context, topics []Topic) ([]Counts, error) {
	pipe := b.rdb.Pipeline()
	lengths := make([][4]*redis.IntCmd, len(topics))
	for i, t := range topics {
		k := topicKeys(t.Name)
		lengths[i] = [4]*redis.IntCmd{pipe.ZCard(ctx, k.due), pipe.ZCard(ctx, k.firing), pipe.ZCard(ctx, k.dead), pipe.HLen(ctx, k.tries)}
	}
	if len(topics) == 0 {
		return nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("count the messages of %d topics: %w", len(topics), err)
	}
	counts := make([]Counts, len(topics))
	for i, l := range lengths {
		// Whatever is firing, retrying or dead has a try; the four are not read at one instant.
		retrying := max(l[3].Val()-l[1].Val()-l[2].Val(), 0)
		counts[i] = Counts{Pending: max(l[0].Val()-retrying, 0), Firing: l[1].Val(), Retrying: retrying, Dead: l[2].Val()}
	}
	return counts, nil
}
