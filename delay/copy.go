package delay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
)

// snapshot is a process' copy of all topics and subscriptions.
type snapshot struct {
	topics map[string]Topic
	list   []Topic        // by name
	subs   []Subscription // by topic, its own first, then by name
	named  map[string]Subscription
	of     map[string][]Subscription // by topic
}

// newSnapshot adds to the subscriptions of the rows those that are made of topics.
func newSnapshot(topics []Topic, rows []Subscription) *snapshot {
	s := &snapshot{topics: make(map[string]Topic, len(topics)), named: map[string]Subscription{},
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
			sub.version = t.Version
			s.of[sub.Topic] = append(s.of[sub.Topic], sub)
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

// Get returns a topic from this process' copy or else from the database, or ErrNoTopic.
func (ts *Topics) Get(ctx context.Context, name string) (Topic, error) {
	if t, ok := ts.copy.Load().topics[name]; ok {
		return t, nil
	}
	if !validName(name, 64, "-_") {
		return Topic{}, fmt.Errorf("topic %q: %w", name, ErrNoTopic)
	}
	var t Topic
	err := ts.db.Read.WithContext(ctx).Take(&t, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Topic{}, fmt.Errorf("topic %s: %w", name, ErrNoTopic)
	}
	return t, err
}

// All returns the topics of this process' copy, sorted by name.
func (ts *Topics) All() []Topic { return slices.Clone(ts.copy.Load().list) }

// Subscriptions returns this process' copy of all subscriptions, sorted by topic, those of the topics' rows first.
func (ts *Topics) Subscriptions() []Subscription { return slices.Clone(ts.copy.Load().subs) }

// Subscription returns one subscription; TOPIC.default is the topic's own. It returns ErrNoSubscription when there is
// none.
func (ts *Topics) Subscription(ctx context.Context, name string) (Subscription, error) {
	if sub, ok := ts.copy.Load().named[name]; ok {
		return sub, nil
	}
	none := fmt.Errorf("subscription %q: %w", name, ErrNoSubscription)
	topic, own := strings.CutSuffix(name, defaultSuffix)
	if !validName(topic, 64, "-_") {
		return Subscription{}, none
	}
	if own {
		t, err := ts.Get(ctx, topic)
		if sub, has := t.Default(); err == nil && has {
			return sub, nil
		}
		if err == nil || errors.Is(err, ErrNoTopic) {
			err = none
		}
		return Subscription{}, err
	}
	var sub Subscription
	err := ts.db.Read.WithContext(ctx).Take(&sub, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Subscription{}, none
	}
	if err != nil {
		return Subscription{}, err
	}
	t, err := ts.Get(ctx, sub.Topic)
	sub.version = t.Version
	return sub, err
}

// Of returns this process' copy of a topic's subscriptions, its own first.
func (ts *Topics) Of(topic string) []Subscription { return slices.Clone(ts.copy.Load().of[topic]) }

const (
	maxTopicRows        = 1000    // the highest delay.max_topics
	maxSubscriptionRows = 100_000 // more than that is not read
)

// Refresh reads all topics and subscriptions again.
func (ts *Topics) Refresh(ctx context.Context) error {
	if err := ts.lock(ctx); err != nil {
		return err
	}
	defer ts.unlock()
	return ts.read(ctx)
}

func (ts *Topics) lock(ctx context.Context) error {
	select {
	case ts.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (ts *Topics) unlock() { <-ts.reading }

// read replaces the copy. Topics are read first: a subscription never stands beside a version that is newer than it.
func (ts *Topics) read(ctx context.Context) error {
	var topics []Topic
	if err := ts.db.Read.WithContext(ctx).Limit(maxTopicRows).Find(&topics).Error; err != nil {
		return fmt.Errorf("read topics: %w", err)
	}
	var rows []Subscription
	if err := ts.db.Read.WithContext(ctx).Limit(maxSubscriptionRows).Find(&rows).Error; err != nil {
		return fmt.Errorf("read subscriptions: %w", err)
	}
	ts.copy.Store(newSnapshot(topics, rows))
	return nil
}

// catchUp reads the database again for a caller whom Redis told of a newer version of a topic, or of none. Then Redis
// has the database's.
func (ts *Topics) catchUp(ctx context.Context, topic string, newer staleError) error {
	if err := ts.lock(ctx); err != nil {
		return err
	}
	defer ts.unlock()
	if newer.known && ts.copy.Load().topics[topic].Version == newer.version {
		return nil // somebody else has read it meanwhile
	}
	if err := ts.read(ctx); err != nil {
		return err
	}
	t, exists := ts.copy.Load().topics[topic]
	if !exists {
		return fmt.Errorf("topic %s: %w", topic, ErrNoTopic)
	}
	// A version is written to Redis after its commit: what the database does not have by now was lost with it.
	if newer.known && newer.version > t.Version {
		ts.log.WarnContext(ctx, "a topic has a newer version in Redis than in the database: the database's counts",
			"topic", topic, "redis", newer.version, "database", t.Version)
		return ts.messages.replaceVersion(ctx, topic, t.Version, newer.version)
	}
	return ts.messages.raise(ctx, topic, t.Version)
}

// publishChange makes a change count in every process: those that add or claim with what they knew read the database
// again. Its own copy is new, too, or will be with Run.
func (ts *Topics) publishChange(ctx context.Context, t Topic) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	err := ts.messages.raise(ctx, t.Name, t.Version)
	ts.refreshNow(ctx)
	if err != nil {
		return fmt.Errorf("topic %s is changed, and other processes may not know it for %s: %w", t.Name,
			ts.cfg.Refresh, err)
	}
	return nil
}

// publishTimeout bounds how long a change waits until it counts everywhere.
const publishTimeout = 5 * time.Second

// Run refreshes until ctx ends. While the database is unreachable the copy stays as it was.
func (ts *Topics) Run(ctx context.Context) {
	failing := false
	for {
		err := ts.Refresh(ctx)
		if err == nil {
			err = ts.raiseChanged(ctx)
		}
		if err != nil && ctx.Err() == nil && !failing {
			ts.log.WarnContext(ctx, "topics not refreshed, will keep trying", "error", err)
		}
		failing = err != nil
		if idle(ctx, nil, ts.cfg.Refresh) != nil {
			return
		}
	}
}

// raiseChanged tells Redis of versions that this process has not told it of: whoever changed a topic may have died
// between its commit and that.
func (ts *Topics) raiseChanged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	var errs []error
	for _, t := range ts.All() {
		if ts.raised[t.Name] == t.Version {
			continue
		}
		if err := ts.messages.raise(ctx, t.Name, t.Version); err != nil {
			errs = append(errs, err)
			continue
		}
		ts.raised[t.Name] = t.Version
	}
	current := ts.copy.Load().topics
	maps.DeleteFunc(ts.raised, func(name string, _ int64) bool { _, known := current[name]; return !known })
	return errors.Join(errs...)
}

// refreshNow shows a change of this process to itself at once. If that fails, Run does it later.
func (ts *Topics) refreshNow(ctx context.Context) {
	if err := ts.Refresh(ctx); err != nil {
		ts.log.WarnContext(ctx, "change of a topic not yet seen by this process", "error", err)
	}
}
