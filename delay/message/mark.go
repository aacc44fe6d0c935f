package message

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"sluice/delay"
)

// marks remembers how many messages of each topic Redis has said it has taken. Safe for concurrent use.
type marks struct {
	mu sync.Mutex
	of map[string]mark // by topic
}

// mark is a count of taken messages, in one era of a topic.
type mark struct{ era, added int64 }

func newMarks() *marks { return &marks{of: map[string]mark{}} }

// known returns the highest count that this process or the database knows.
func (m *marks) known(topic string, row mark) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if own := m.of[topic]; own.era == row.era {
		return max(own.added, row.added)
	}
	return row.added
}

// note takes over what Redis has said.
func (m *marks) note(topic string, said mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if own, has := m.of[topic]; !has || own.era < said.era || own.era == said.era && own.added < said.added {
		m.of[topic] = said
	}
}

// keep forgets all topics but these.
func (m *marks) keep(topics []delay.Topic) {
	still := make(map[string]mark, len(topics))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range topics {
		if own, has := m.of[t.Name]; has {
			still[t.Name] = own
		}
	}
	m.of = still
}

// Marks compares what the stores of topics have taken with what is known of it. One that cannot be asked has an error.
// Topics are all that there are: what is known of others is forgotten.
func (s *Store) Marks(ctx context.Context, topics []delay.Topic) ([]delay.Mark, []error) {
	found, failed := make([]delay.Mark, len(topics)), make([]error, len(topics))
	own := make([]delay.Subscription, len(topics))
	for i, t := range topics {
		own[i] = delay.OwnOf(t.Name)
		own[i].Store = t.Store
		// Before Redis is asked: what is added meanwhile is no loss.
		found[i] = delay.Mark{Era: t.MarkEra, Known: s.marks.known(t.Name, mark{t.MarkEra, t.MarkAdded})}
	}
	s.eachPlace(own, func(at *place, of []int) {
		pipe := at.Redis.Pipeline()
		read := make([]*redis.StringCmd, len(of))
		for n, i := range of {
			read[n] = pipe.Get(ctx, at.topicKeys(topics[i].Name).added)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for n, i := range of {
			count, err := read[n].Int64()
			if err != nil && !errors.Is(err, redis.Nil) {
				failed[i] = fmt.Errorf("read what was added to topic %s: %w", topics[i].Name, at.failed(err))
			}
			found[i].Found = count
		}
	}, func(i int, err error) { failed[i] = err })
	s.marks.keep(topics)
	return found, failed
}

// behind reads add.lua's answer that Redis has taken less than is known.
func behind(a Addition, known int64, found any) error {
	text, _ := found.(string)
	count, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("count of messages of topic %s in Redis: %w", a.Topic, err)
	}
	return delay.BehindError{Topic: a.Topic, Mark: delay.Mark{Era: a.Era, Known: known, Found: count}}
}
