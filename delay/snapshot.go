package delay

import (
	"slices"
	"strings"
)

// Snapshot is a process' copy of all topics and subscriptions, as they were at one reading. Nobody changes it.
type Snapshot struct {
	topics map[string]Topic
	list   []Topic        // by name
	subs   []Subscription // by topic, its own first, then by name
	named  map[string]Subscription
	of     map[string][]Subscription // by topic
}

// newSnapshot adds to the subscriptions of the rows those that are made of topics.
func newSnapshot(topics []Topic, rows []Subscription) *Snapshot {
	s := &Snapshot{topics: make(map[string]Topic, len(topics)), named: map[string]Subscription{},
		of: map[string][]Subscription{}, list: topics}
	slices.SortFunc(s.list, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(rows, func(a, b Subscription) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range s.list {
		s.topics[t.Name] = t
		if own, has := t.Default(); has {
			s.of[t.Name] = append(s.of[t.Name], own)
		}
	}
	for _, sub := range rows {
		if t, known := s.topics[sub.Topic]; known { // else the topic was read before it was made
			s.of[sub.Topic] = append(s.of[sub.Topic], sub.with(t))
		}
	}
	for _, t := range s.list {
		s.subs = append(s.subs, s.of[t.Name]...)
	}
	for _, sub := range s.subs {
		s.named[sub.Name] = sub
	}
	return s
}

// Topic returns a topic of the copy; false where there was none.
func (s *Snapshot) Topic(name string) (t Topic, known bool) {
	t, known = s.topics[name]
	return t, known
}

// Subscription returns a subscription of the copy; false where there was none.
func (s *Snapshot) Subscription(name string) (sub Subscription, known bool) {
	sub, known = s.named[name]
	return sub, known
}

// Of returns the subscriptions of a topic, its own first. The caller must not change the list.
func (s *Snapshot) Of(topic string) []Subscription { return s.of[topic] }

// Subscriptions returns all, sorted by topic, the topics' own first. The caller must not change the list.
func (s *Snapshot) Subscriptions() []Subscription { return s.subs }
