package delay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/internal/invalid"

	"gorm.io/gorm"
)

// Snapshot returns this process' copy. Each reading of the database replaces it as a whole.
func (ts *Topics) Snapshot() *Snapshot { return ts.copy.Load() }

// Get returns a topic from this process' copy or else from the database, or ErrNoTopic.
func (ts *Topics) Get(ctx context.Context, name string) (Topic, error) {
	if t, ok := ts.Snapshot().topics[name]; ok {
		return t, nil
	}
	if !invalid.Name(name, 64, "-_") {
		return Topic{}, fmt.Errorf("topic %q: %w", name, ErrNoTopic)
	}
	var t Topic
	err := ts.db.Read.WithContext(ctx).Take(&t, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Topic{}, ts.noTopic(name)
	}
	return t, err
}

// All returns the topics of this process' copy, sorted by name.
func (ts *Topics) All() []Topic { return slices.Clone(ts.Snapshot().list) }

// Subscriptions returns this process' copy of all subscriptions, sorted by topic, those of the topics' rows first.
func (ts *Topics) Subscriptions() []Subscription { return slices.Clone(ts.Snapshot().subs) }

// ToDeliver returns the topics of this process' copy with a subscription that is on and not read by others: notifiers
// have to deliver its messages.
func (ts *Topics) ToDeliver() (names []string) {
	for _, sub := range ts.Snapshot().subs {
		if sub.On() && sub.Kind != Pull && (len(names) == 0 || names[len(names)-1] != sub.Topic) {
			names = append(names, sub.Topic)
		}
	}
	return names
}

// Subscription returns one subscription; TOPIC.default is the topic's own. It returns ErrNoSubscription when there is
// none.
func (ts *Topics) Subscription(ctx context.Context, name string) (Subscription, error) {
	if sub, ok := ts.Snapshot().named[name]; ok {
		return sub, nil
	}
	none := fmt.Errorf("subscription %q: %w", name, ErrNoSubscription)
	topic, own := strings.CutSuffix(name, defaultSuffix)
	if !invalid.Name(topic, 64, "-_") {
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
	return sub.with(t), err
}

// Of returns this process' copy of a topic's subscriptions, its own first.
func (ts *Topics) Of(topic string) []Subscription { return slices.Clone(ts.Snapshot().of[topic]) }

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

// CatchUp reads the database again for a caller whom Redis told of a newer version of a topic, or none. Then Redis
// has the database's.
func (ts *Topics) CatchUp(ctx context.Context, topic string, newer StaleError) error {
	if err := ts.lock(ctx); err != nil {
		return err
	}
	defer ts.unlock()
	if newer.Known && ts.Snapshot().topics[topic].Version == newer.Version {
		return nil // somebody else has read it meanwhile
	}
	if err := ts.read(ctx); err != nil {
		return err
	}
	t, exists := ts.Snapshot().topics[topic]
	if !exists {
		return fmt.Errorf("topic %s: %w", topic, ErrNoTopic)
	}
	// A version is written to Redis after its commit. What the database does not have by now was lost with it.
	if newer.Known && newer.Version > t.Version {
		ts.log.WarnContext(ctx, "a topic has a newer version in Redis than in the database: the database's counts",
			"topic", topic, "redis", newer.Version, "database", t.Version)
		return ts.messages.ReplaceVersion(ctx, t, newer.Version)
	}
	return ts.messages.Raise(ctx, t)
}

// publishChange makes a change count in every process. Those that add or claim with what they knew read the database
// again. Its own copy is new, too, or will be with Run.
func (ts *Topics) publishChange(ctx context.Context, t Topic) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	err := ts.messages.Raise(ctx, t)
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
			err = errors.Join(ts.makeChannelTopics(ctx), ts.raiseChanged(ctx), ts.lookForLoss(ctx))
		}
		if err != nil && ctx.Err() == nil && !failing {
			ts.log.WarnContext(ctx, "topics not refreshed, will keep trying", "error", err)
		}
		failing = err != nil
		if idle(ctx, ts.cfg.Refresh) != nil {
			return
		}
	}
}

// raiseChanged tells Redis of versions that this process has not told it of. Whoever changed a topic may have died
// between its commit and that. A store that hangs holds up no topic of another.
func (ts *Topics) raiseChanged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	changed, known := map[string][]Topic{}, ts.Snapshot().topics
	ts.versions.Lock()
	maps.DeleteFunc(ts.raised, func(name string, _ int64) bool { _, still := known[name]; return !still })
	for _, t := range ts.Snapshot().list {
		if ts.raised[t.Name] != t.Version {
			changed[t.Store] = append(changed[t.Store], t)
		}
	}
	ts.versions.Unlock()
	failed := make(chan error, len(changed))
	for _, some := range changed {
		go func() { failed <- ts.raiseAll(ctx, some) }()
	}
	var errs []error
	for range changed {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

// raiseAll tells one store of the versions of topics.
func (ts *Topics) raiseAll(ctx context.Context, topics []Topic) error {
	for _, t := range topics {
		if err := ts.messages.Raise(ctx, t); err != nil {
			return err
		}
		ts.versions.Lock()
		ts.raised[t.Name] = t.Version
		ts.versions.Unlock()
	}
	return nil
}

// refreshNow shows a change of this process to itself at once. If that fails, Run does it later.
func (ts *Topics) refreshNow(ctx context.Context) {
	if err := ts.Refresh(ctx); err != nil {
		ts.log.WarnContext(ctx, "change of a topic not yet seen by this process", "error", err)
	}
}

// idle waits for the time or the end of ctx, whose error it returns.
func idle(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
