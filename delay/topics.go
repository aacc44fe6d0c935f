package delay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/store"
)

// Topics keeps topics in the database. Every process has a copy of all topics and reads it again each Config.Refresh.
// Every change is one transaction that also writes the admin log, without secrets. Safe for concurrent use.
type Topics struct {
	cfg      Config
	db       *store.DB
	messages *Store
	events   []string
	noMail   bool // there is no mail server
	log      *slog.Logger
	now      func() time.Time
	copy     atomic.Pointer[map[string]Topic]
}

// TopicsParts is what NewTopics needs.
type TopicsParts struct {
	Config   Config
	DB       *store.DB
	Messages *Store   // of the topics
	Events   []string // those a topic may ask for; none without Config.OrderEvents
	NoMail   bool     // there is no mail server: a change that names an alert address fails
	Log      *slog.Logger
	Now      func() time.Time
}

// NewTopics returns the topics kept in a database.
func NewTopics(p TopicsParts) *Topics {
	if !p.Config.OrderEvents {
		p.Events = nil
	}
	t := &Topics{cfg: p.Config, db: p.DB, messages: p.Messages, events: p.Events, noMail: p.NoMail, log: p.Log,
		now: p.Now}
	t.copy.Store(&map[string]Topic{})
	return t
}

// Create adds a topic. Unless ch says otherwise, it is on and gets a new secret. Its receiver is called by POST, with
// ten retries after 1, 3, 5, … minutes. It returns an invalid.Error, ErrTopicExists or ErrManyTopics.
func (ts *Topics) Create(ctx context.Context, name string, ch Change, actor, reason string) (Topic, error) {
	topic := newTopic(name, ts.cfg, ts.now())
	topic.Secret = newSecret()
	if ch.Secret != nil {
		topic.Secret = *ch.Secret
	}
	ch.apply(&topic, ts.now())
	if err := errors.Join(checkReason(reason), ts.checkAlert(ch), topic.check(ts.cfg, ts.events)); err != nil {
		return Topic{}, err
	}
	act := adminlog.Act{Actor: actor, Action: "topic.create", Target: name, Reason: reason}
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		var count int64
		if err := tx.Model(&Topic{}).Count(&count).Error; err != nil {
			return err
		}
		if count >= int64(ts.cfg.MaxTopics) {
			return ErrManyTopics
		}
		if err := tx.Create(&topic).Error; err != nil {
			return err
		}
		if err := act.Write(tx, ts.now(), nil, topic.masked()); err != nil {
			return err
		}
		return ts.messages.reopen(ctx, name)
	})
	if store.Duplicate(err) {
		return Topic{}, fmt.Errorf("%s: %w", name, ErrTopicExists)
	}
	if err != nil {
		return Topic{}, fmt.Errorf("create topic %s: %w", name, err)
	}
	ts.refreshNow(ctx)
	return topic, nil
}

// Update changes a topic. It returns an invalid.Error or ErrNoTopic. Other processes follow within Config.Refresh.
func (ts *Topics) Update(ctx context.Context, name string, ch Change, actor, reason string) (Topic, error) {
	if err := errors.Join(checkReason(reason), ts.checkAlert(ch)); err != nil {
		return Topic{}, err
	}
	act := adminlog.Act{Actor: actor, Action: "topic.update", Target: name, Reason: reason}
	var after Topic
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		after = before
		ch.apply(&after, ts.now())
		if err := after.check(ts.cfg, ts.events); err != nil {
			return err
		}
		if err := tx.Select("*").Where("name = ?", name).Updates(&after).Error; err != nil {
			return err
		}
		return act.Write(tx, ts.now(), before.masked(), after.masked())
	})
	if err != nil {
		return Topic{}, fmt.Errorf("change topic %s: %w", name, err)
	}
	ts.refreshNow(ctx)
	return after, nil
}

// Delete removes a topic. It returns ErrTopicInUse while the topic has unfinished messages, or ErrNoTopic.
func (ts *Topics) Delete(ctx context.Context, name, actor, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	act := adminlog.Act{Actor: actor, Action: "topic.delete", Target: name, Reason: reason}
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		if err := tx.Where("name = ?", name).Delete(&Topic{}).Error; err != nil {
			return err
		}
		if err := act.Write(tx, ts.now(), before.masked(), nil); err != nil {
			return err
		}
		// This comes last: should the commit fail after it, the topic only takes no messages for a minute.
		return ts.messages.forget(ctx, name)
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	ts.refreshNow(ctx)
	return nil
}

// Get returns a topic from this process' copy or else from the database, or ErrNoTopic.
func (ts *Topics) Get(ctx context.Context, name string) (Topic, error) {
	if t, ok := (*ts.copy.Load())[name]; ok {
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
func (ts *Topics) All() []Topic {
	topics := *ts.copy.Load()
	list := make([]Topic, 0, len(topics))
	for _, t := range topics {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Refresh reads all topics again.
func (ts *Topics) Refresh(ctx context.Context) error {
	var rows []Topic
	if err := ts.db.Read.WithContext(ctx).Limit(maxTopicRows).Find(&rows).Error; err != nil {
		return fmt.Errorf("read topics: %w", err)
	}
	topics := make(map[string]Topic, len(rows))
	for _, t := range rows {
		topics[t.Name] = t
	}
	ts.copy.Store(&topics)
	return nil
}

// maxTopicRows is the highest delay.max_topics.
const maxTopicRows = 1000

// Run refreshes until ctx ends. While the database is unreachable the copy stays as it was.
func (ts *Topics) Run(ctx context.Context) {
	failing := false
	for {
		err := ts.Refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			ts.log.WarnContext(ctx, "topics not refreshed, will keep trying", "error", err)
		}
		failing = err != nil
		if idle(ctx, nil, ts.cfg.Refresh) != nil {
			return
		}
	}
}

// refreshNow shows a change of this process to itself at once. If that fails, Run does it later.
func (ts *Topics) refreshNow(ctx context.Context) {
	if err := ts.Refresh(ctx); err != nil {
		ts.log.WarnContext(ctx, "change of a topic not yet seen by this process", "error", err)
	}
}

func lockTopic(tx *gorm.DB, name string) (Topic, error) {
	var t Topic
	err := store.ForUpdate(tx).Take(&t, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return t, ErrNoTopic
	}
	return t, err
}

// checkAlert refuses an alert address in ch while there is no mail server. It does not look at the topic's present
// address: old topics must stay changeable.
func (ts *Topics) checkAlert(ch Change) error {
	if ts.noMail && ch.Alert != nil && *ch.Alert != "" {
		return invalid.Error{{Field: "alert", Detail: "cannot be mailed to: notify.email.addr is not set"}}
	}
	return nil
}

func checkReason(reason string) error {
	if reason != "" && !plainText(reason, 200) {
		return invalid.Error{{Field: "reason", Detail: "must be at most 200 characters without control characters"}}
	}
	return nil
}
