package delay

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// staleError says that a caller does not know the newest version of a topic.
type staleError struct {
	version int64
	known   bool // Redis has a version
}

func (e staleError) Error() string { return "the topic was changed" }

// staleAs reads what scripts say of a caller who is behind.
func staleAs(version any) error {
	text, _ := version.(string)
	if text == "" {
		return staleError{}
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("version of a topic in Redis: %w", err)
	}
	return staleError{number, true}
}

// conflictError names the messages of an add that are known with another body or time, by their places.
type conflictError struct {
	topic  string
	first  string // id
	places []int
}

func (e conflictError) Error() string {
	return fmt.Sprintf("message %s of topic %s: %s", e.first, e.topic, ErrConflict)
}

func (conflictError) Unwrap() error { return ErrConflict }

// addition is messages for subscriptions of a topic.
type addition struct {
	topic    string
	version  int64 // of the topic, as the subscriptions were read
	subs     []Subscription
	messages []New
}

// add takes 1 to 1,000 messages that were checked, all or none, and returns when each is due by Redis' clock. Each goes
// to the subscriptions whose filter takes it. It returns a staleError, a conflictError, ErrFull or ErrNoTopic.
func (s *Store) add(ctx context.Context, a addition) ([]time.Time, error) {
	if err := s.durable(); err != nil {
		return nil, err
	}
	keys, args := s.addCall(a)
	reply, err := s.scripts.add.RunList(ctx, s.rdb, keys, args...)
	if err != nil {
		return nil, err
	}
	switch reply[0].(int64) {
	case -1:
		bad := conflictError{topic: a.topic}
		for _, place := range reply[1:] {
			bad.places = append(bad.places, int(place.(int64))-1)
		}
		bad.first = a.messages[bad.places[0]].ID
		return nil, bad
	case -2:
		return nil, fmt.Errorf("topic %s: %w", a.topic, ErrFull)
	case -3:
		return nil, fmt.Errorf("topic %s: %w", a.topic, ErrNoTopic)
	case -4:
		return nil, staleAs(reply[1])
	}
	due := make([]time.Time, len(a.messages))
	for i := range due {
		due[i] = parseMillis(reply[i+1].(string))
	}
	return due, nil
}

// addCall returns KEYS and ARGV of add.lua.
func (s *Store) addCall(a addition) (keys []string, args []any) {
	of := s.topicKeys(a.topic)
	keys = append(make([]string, 0, 2+4*len(a.subs)), of.gone, of.version)
	args = append(make([]any, 0, 3+4*len(a.messages)+len(a.subs)), a.version, s.cfg.MaxMessages, len(a.messages))
	for _, m := range a.messages {
		kind, ms := "d", m.Delay.Milliseconds()
		if !m.At.IsZero() {
			kind, ms = "a", m.At.UnixMilli()
		}
		args = append(args, m.ID, kind, ms, m.Body)
	}
	for _, sub := range a.subs {
		letters, some := lettersOf(sub.filter(), a.messages)
		if !some {
			continue // it gets none of them
		}
		k := s.keysOf(sub)
		keys = append(keys, k.due, k.messages, k.done, k.missed)
		args = append(args, letters)
	}
	return keys, args
}

// lettersOf tells add.lua which messages a filter takes, and whether there are any.
func lettersOf(f filter, messages []New) (letters string, some bool) {
	if f.takesAll() {
		return "", true
	}
	text := make([]byte, len(messages))
	for i, m := range messages {
		text[i] = 'n'
		if f.takes(m) {
			text[i], some = 'y', true
		}
	}
	return string(text), some
}

// raise makes a version of a topic known, unless a newer one is.
func (s *Store) raise(ctx context.Context, topic string, version int64) error {
	_, err := s.scripts.raise.RunList(ctx, s.rdb, []string{s.topicKeys(topic).version}, version, "")
	return err
}

// replaceVersion makes a version known in the place of one that no database knows.
func (s *Store) replaceVersion(ctx context.Context, topic string, version, lost int64) error {
	_, err := s.scripts.raise.RunList(ctx, s.rdb, []string{s.topicKeys(topic).version}, version, lost)
	return err
}
