package message

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/delay"
)

// staleAs reads what scripts say of a caller who is behind.
func staleAs(version any) error {
	text, _ := version.(string)
	if text == "" {
		return delay.StaleError{}
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("version of a topic in Redis: %w", err)
	}
	return delay.StaleError{Version: number, Known: true}
}

// ConflictError names the messages of an add that are known with another body or time, by their places.
type ConflictError struct {
	Topic  string
	First  string // id
	Places []int
}

// Error names the first of the messages.
func (e ConflictError) Error() string {
	return fmt.Sprintf("message %s of topic %s: %s", e.First, e.Topic, delay.ErrConflict)
}

// Unwrap returns delay.ErrConflict.
func (ConflictError) Unwrap() error { return delay.ErrConflict }

// Addition is messages for subscriptions of a topic.
type Addition struct {
	Topic         string
	Store         string // that the topic chose
	Version       int64  // of the topic, as the subscriptions were read
	Era, Added    int64  // of the topic: its MarkEra and MarkAdded
	Subscriptions []delay.Subscription
	Messages      []delay.New
}

// Add takes 1 to 1,000 checked messages, all or none. It returns when each is due by Redis' clock. Each goes to the
// subscriptions whose filter takes it. It returns a StaleError, a BehindError, a ConflictError, ErrFull or
// ErrNoTopic.
func (s *Store) Add(ctx context.Context, a Addition) ([]time.Time, error) {
	at, err := s.at(a.Store)
	if err != nil {
		return nil, err
	}
	if at.Durable != nil {
		if err := at.Durable(); err != nil {
			return nil, at.failed(err)
		}
	}
	known := s.marks.known(a.Topic, mark{a.Era, a.Added})
	keys, args := s.addCall(at, a)
	keys, args = append(keys, at.topicKeys(a.Topic).added), append(args, known)
	reply, err := at.durably(ctx, at.topicKeys(a.Topic).waited, s.scripts.add, keys, args...)
	if err != nil {
		return nil, err
	}
	switch reply[0].(int64) {
	case -1:
		bad := ConflictError{Topic: a.Topic}
		for _, place := range reply[1:] {
			bad.Places = append(bad.Places, int(place.(int64))-1)
		}
		bad.First = a.Messages[bad.Places[0]].ID
		return nil, bad
	case -2:
		return nil, fmt.Errorf("topic %s: %w", a.Topic, delay.ErrFull)
	case -3:
		return nil, fmt.Errorf("topic %s: %w", a.Topic, delay.ErrNoTopic)
	case -4:
		return nil, staleAs(reply[1])
	case -5:
		return nil, behind(a, known, reply[1])
	}
	s.marks.note(a.Topic, mark{a.Era, parseMillis(reply[len(a.Messages)+1].(string)).UnixMilli()})
	due := make([]time.Time, len(a.Messages))
	for i := range due {
		due[i] = parseMillis(reply[i+1].(string))
	}
	return due, nil
}

// addCall returns KEYS and ARGV of add.lua.
func (s *Store) addCall(at *place, a Addition) (keys []string, args []any) {
	of := at.topicKeys(a.Topic)
	keys = append(make([]string, 0, 2+5*len(a.Subscriptions)), of.gone, of.version)
	args = make([]any, 0, 6+5*len(a.Messages)+len(a.Subscriptions))
	args = append(args, a.Version, s.cfg.MaxMessages, len(a.Messages))
	for _, m := range a.Messages {
		kind, ms := "d", m.Delay.Milliseconds()
		if !m.At.IsZero() {
			kind, ms = "a", m.At.UnixMilli()
		}
		args = append(args, m.ID, kind, ms, m.Body, aboutOf(m))
	}
	for _, sub := range a.Subscriptions {
		letters, some := lettersOf(sub.Filter(), a.Messages)
		if !some {
			continue // it gets none of them
		}
		k := at.keysOf(sub)
		keys = append(keys, k.due, k.messages, k.done, k.missed, k.about)
		args = append(args, letters)
	}
	return keys, append(args, at.soonChannel(), SoonDue.Milliseconds(), a.Topic)
}

// aboutOf returns what is kept of a message beside its record; readAbout reads it.
func aboutOf(m delay.New) string {
	if m.Event == "" && m.Sale == "" {
		return ""
	}
	return m.Event + "\t" + m.Sale
}

func readAbout(text string) (event, sale string) {
	event, sale, _ = strings.Cut(text, "\t")
	return event, sale
}

// lettersOf tells add.lua which messages a filter takes, and whether there are any.
func lettersOf(f delay.Filter, messages []delay.New) (letters string, some bool) {
	if f.TakesAll() {
		return "", true
	}
	text := make([]byte, len(messages))
	for i, m := range messages {
		text[i] = 'n'
		if f.Takes(m) {
			text[i], some = 'y', true
		}
	}
	return string(text), some
}
