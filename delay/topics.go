package delay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/store"
)

// Topics keeps topics and their subscriptions in the database. Every process holds a copy of all and reads it again
// each Config.Refresh. Every change is one transaction that also writes the admin log, which never holds a secret. It
// counts at once in every process: see Topic.Version. Safe for concurrent use.
type Topics struct {
	cfg      Config
	db       *store.DB
	messages Messages
	events   []string
	noMail   bool // there is no mail server
	channels []string
	onLoss   func(ctx context.Context, loss Loss)
	log      *slog.Logger
	now      func() time.Time
	copy     atomic.Pointer[Snapshot]
	versions sync.Mutex       // of raised
	reading  chan struct{}    // holds a token while the database is read: an older reading never replaces a newer
	raised   map[string]int64 // versions that Run has told Redis of
}

// Messages is what Topics asks of the store of messages: see message.Store, which knows topics, and not the reverse.
type Messages interface {
	Raise(ctx context.Context, t Topic) error
	ReplaceVersion(ctx context.Context, t Topic, lost int64) error
	Reopen(ctx context.Context, t Topic) error
	Forget(ctx context.Context, t Topic) error
	Erase(ctx context.Context, sub Subscription, giveUp bool) (unfinished int64, err error)
	Unused(ctx context.Context, sub Subscription, inUse error) error
	Marks(ctx context.Context, topics []Topic) ([]Mark, []error)
	Unfinished(ctx context.Context, subs []Subscription) (byTopic map[string]int64, failed map[string]error)
}

// TopicsParts is what NewTopics needs.
type TopicsParts struct {
	Config   Config
	DB       *store.DB
	Messages Messages
	Events   []string                             // those a topic may ask for; none without Config.OrderEvents
	NoMail   bool                                 // there is no mail server: a change that names an alert address fails
	Channels []string                             // those of ChannelTopics whose channel is enabled
	OnLoss   func(ctx context.Context, loss Loss) // is told what stores have lost; must not block. nil: nobody is
	Log      *slog.Logger
	Now      func() time.Time
}

// NewTopics returns the topics kept in a database.
func NewTopics(p TopicsParts) *Topics {
	if !p.Config.OrderEvents {
		p.Events = nil
	}
	t := &Topics{cfg: p.Config, db: p.DB, messages: p.Messages, events: p.Events, noMail: p.NoMail,
		channels: p.Channels,
		onLoss:   p.OnLoss, log: p.Log,
		now: p.Now, reading: make(chan struct{}, 1), raised: map[string]int64{}}
	t.copy.Store(newSnapshot(nil, nil))
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
	var noURL error
	if ch.URL == nil {
		noURL = invalid.Error{{Field: "url", Detail: "must be given; it is empty where only subscriptions receive"}}
	}
	if slices.Contains(ChannelTopics(), name) {
		return Topic{}, invalid.Error{{Field: "name", Detail: "is kept for the messages of channel " + name}}
	}
	if err := errors.Join(checkReason(reason), noURL, ts.checkAlert(ch.Alert),
		topic.check(ts.cfg, ts.events)); err != nil {
		return Topic{}, err
	}
	act := adminlog.Act{Actor: actor, Action: "topic.create", Target: name, Reason: reason}
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		var count int64
		others := tx.Model(&Topic{}).Where("name NOT IN ?", ChannelTopics())
		if err := others.Count(&count).Error; err != nil {
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
		return ts.messages.Reopen(ctx, topic)
	})
	if store.Duplicate(err) {
		return Topic{}, fmt.Errorf("%s: %w", name, ErrTopicExists)
	}
	if err != nil {
		return Topic{}, fmt.Errorf("create topic %s: %w", name, err)
	}
	return topic, ts.publishChange(ctx, topic)
}

// Update changes a topic. It returns an invalid.Error, ErrNoTopic, or ErrTopicInUse where its URL or its store is to be
// taken from unfinished messages.
func (ts *Topics) Update(ctx context.Context, name string, ch Change, actor, reason string) (Topic, error) {
	return ts.update(ctx, ch, false, adminlog.Act{Actor: actor, Action: "topic.update", Target: name, Reason: reason})
}

// update changes a topic. With giveUp the unfinished messages of its own URL may go with it.
func (ts *Topics) update(ctx context.Context, ch Change, giveUp bool, act adminlog.Act) (Topic, error) {
	if err := errors.Join(checkReason(act.Reason), ts.checkAlert(ch.Alert)); err != nil {
		return Topic{}, err
	}
	name, own := act.Target, OwnOf(act.Target)
	var after Topic
	ended := false
	var moving *Topic // from where; it takes no messages there
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		after = before.changed(ts.now())
		ch.apply(&after, ts.now())
		if err := after.check(ts.cfg, ts.events); err != nil {
			return err
		}
		if before.ByChannel() && (after.URL != "" || after.Events != "") {
			return ErrChannelTopic
		}
		if after.Store != before.Store {
			moving = &before
			// Two eras later: what was counted where it was is not compared with anything.
			after.Marks = Marks{MarkEra: before.MarkEra + 2, Lost: before.Lost, LostAt: before.LostAt}
			if err := ts.move(ctx, tx, before, after); err != nil {
				return err
			}
		}
		ended = before.URL != "" && after.URL == "" && !after.ByChannel()
		if before.URL != "" && after.URL == "" && !(ended && giveUp) {
			if err := ts.messages.Unused(ctx, own.with(before), ErrTopicInUse); err != nil {
				return err
			}
		}
		if err := tx.Select("*").Where("name = ?", name).Updates(&after).Error; err != nil {
			return err
		}
		if err := act.Write(tx, ts.now(), before.masked(), after.masked()); err != nil {
			return err
		}
		if before.URL != "" || after.URL == "" {
			return nil
		}
		// What an earlier URL left behind whose end was cut off belongs to nobody.
		_, err = ts.messages.Erase(ctx, own.with(after), true)
		return err
	})
	if err != nil && moving != nil {
		ts.reopen(ctx, *moving)
	}
	if err != nil {
		return Topic{}, fmt.Errorf("change topic %s: %w", name, err)
	}
	if err := ts.publishChange(ctx, after); err != nil || !ended {
		return after, err
	}
	return after, ts.eraseEnded(ctx, own.with(after))
}

// Delete removes a topic without unfinished messages and subscriptions, else it returns ErrTopicInUse or ErrSubscribed;
// ErrNoTopic when there is none. A caller who hangs up does not stop it half way.
func (ts *Topics) Delete(ctx context.Context, name, actor, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	var forgotten *Topic
	act := adminlog.Act{Actor: actor, Action: "topic.delete", Target: name, Reason: reason}
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		if before.ByChannel() {
			return ErrChannelTopic
		}
		if subscribed, err := countSubscriptions(tx, name); err != nil || subscribed > 0 {
			return errors.Join(err, onlyIf(subscribed > 0, ErrSubscribed))
		}
		if err := tx.Where("name = ?", name).Delete(&Topic{}).Error; err != nil {
			return err
		}
		if err := act.Write(tx, ts.now(), before.masked(), nil); err != nil {
			return err
		}
		forgotten = &before // by a call whose answer is lost, too
		return ts.messages.Forget(ctx, before)
	})
	if err != nil && forgotten != nil {
		ts.reopen(ctx, *forgotten)
	}
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	ts.refreshNow(ctx)
	return nil
}

// deleteTimeout bounds a deletion, which its caller cannot cut off.
const deleteTimeout = 10 * time.Second

// reopen lets a topic take messages whose deletion failed after its messages were forgotten. Should the row be gone all
// the same, nothing is added: nobody finds the topic.
func (ts *Topics) reopen(ctx context.Context, t Topic) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	if err := ts.messages.Reopen(ctx, t); err != nil {
		ts.log.WarnContext(ctx, "a topic that was not deleted or moved takes no messages for a minute", "topic", t.Name,
			"error", err)
	}
}

func onlyIf(when bool, err error) error {
	if when {
		return err
	}
	return nil
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
func (ts *Topics) checkAlert(alert *string) error {
	if ts.noMail && alert != nil && *alert != "" {
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
