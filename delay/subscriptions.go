package delay

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/store"
)

// CreateSubscription adds a subscription to a topic. It gets every message that is added after it was made. It returns
// an invalid.Error, ErrNoTopic, ErrSubscriptionExists or ErrManySubscriptions.
func (ts *Topics) CreateSubscription(
	ctx context.Context, n NewSubscription, ch SubscriptionChange, actor, reason string,
) (Subscription, error) {
	sub := newSubscription(n, ch, ts.cfg, ts.now())
	if err := errors.Join(checkReason(reason), ts.checkAlert(ch.Alert), sub.check(ts.cfg)); err != nil {
		return Subscription{}, err
	}
	act := adminlog.Act{Actor: actor, Action: "subscription.create", Target: n.Name, Reason: reason}
	topic, err := ts.changeWithin(ctx, n.Topic, func(tx *gorm.DB, topic Topic) error {
		if topic.ByChannel() {
			return ErrChannelTopic
		}
		count, err := countSubscriptions(tx, n.Topic)
		if err != nil {
			return err
		}
		if count >= int64(ts.cfg.MaxSubscriptions) {
			return ErrManySubscriptions
		}
		if err := tx.Create(&sub).Error; err != nil {
			return err
		}
		if err := act.Write(tx, ts.now(), nil, sub.masked()); err != nil {
			return err
		}
		// What one of this name left behind whose deletion was cut off belongs to nobody.
		_, err = ts.messages.Erase(ctx, sub.with(topic), true)
		return err
	})
	if store.Duplicate(err) {
		return Subscription{}, fmt.Errorf("%s: %w", n.Name, ErrSubscriptionExists)
	}
	if err != nil {
		return Subscription{}, fmt.Errorf("create subscription %s: %w", n.Name, err)
	}
	sub = sub.with(topic)
	return sub, ts.publishChange(ctx, topic)
}

// UpdateSubscription changes a subscription; of TOPIC.default it changes the topic. It returns an invalid.Error or
// ErrNoSubscription.
func (ts *Topics) UpdateSubscription(ctx context.Context, name string, ch SubscriptionChange, actor, reason string,
) (Subscription, error) {
	before, err := ts.Subscription(ctx, name)
	if err != nil {
		return Subscription{}, err
	}
	if before.IsDefault() {
		return ts.updateDefault(ctx, before, ch, actor, reason)
	}
	if err := errors.Join(checkReason(reason), ts.checkAlert(ch.Alert)); err != nil {
		return Subscription{}, err
	}
	act := adminlog.Act{Actor: actor, Action: "subscription.update", Target: name, Reason: reason}
	var after Subscription
	topic, err := ts.changeWithin(ctx, before.Topic, func(tx *gorm.DB, _ Topic) error {
		before, err := lockSubscription(tx, name)
		if err != nil {
			return err
		}
		after = before
		ch.apply(&after, ts.now())
		if err := after.check(ts.cfg); err != nil {
			return err
		}
		if err := tx.Select("*").Where("name = ?", name).Updates(&after).Error; err != nil {
			return err
		}
		return act.Write(tx, ts.now(), before.masked(), after.masked())
	})
	if err != nil {
		return Subscription{}, fmt.Errorf("change subscription %s: %w", name, err)
	}
	after = after.with(topic)
	return after, ts.publishChange(ctx, topic)
}

func (ts *Topics) updateDefault(ctx context.Context, sub Subscription, ch SubscriptionChange, actor, reason string,
) (Subscription, error) {
	change, err := ch.ofTopic()
	if err != nil {
		return Subscription{}, err
	}
	if ch.URL != nil && *ch.URL == "" {
		return Subscription{}, invalid.Error{{Field: "url", Detail: "must not be empty: delete the subscription"}}
	}
	topic, err := ts.Update(ctx, sub.Topic, change, actor, reason)
	if err != nil {
		return Subscription{}, err
	}
	after, _ := topic.Default()
	return after, nil
}

// Deletion says which subscription to delete.
type Deletion struct {
	Name   string
	GiveUp bool // what is unfinished goes with it
}

// DeleteSubscription removes a subscription with all that it remembers; TOPIC.default ends with the topic's URL. It
// returns ErrNoSubscription, or ErrSubscriptionInUse where it has unfinished messages that are not to be given up.
func (ts *Topics) DeleteSubscription(ctx context.Context, d Deletion, actor, reason string) error {
	sub, err := ts.Subscription(ctx, d.Name)
	if err != nil {
		return err
	}
	if sub.Kind == Channel {
		return fmt.Errorf("subscription %s: %w", d.Name, ErrChannelTopic)
	}
	if sub.IsDefault() {
		return ts.deleteDefault(ctx, sub, d, actor, reason)
	}
	if err := checkReason(reason); err != nil {
		return err
	}
	act := adminlog.Act{Actor: actor, Action: "subscription.delete", Target: d.Name, Reason: reason}
	topic, err := ts.changeWithin(ctx, sub.Topic, func(tx *gorm.DB, topic Topic) error {
		before, err := lockSubscription(tx, d.Name)
		if err != nil {
			return err
		}
		if !d.GiveUp {
			if err := ts.messages.Unused(ctx, sub.with(topic), ErrSubscriptionInUse); err != nil {
				return err
			}
		}
		if err := tx.Where("name = ?", d.Name).Delete(&Subscription{}).Error; err != nil {
			return err
		}
		return act.Write(tx, ts.now(), before.masked(), nil)
	})
	if err != nil {
		return fmt.Errorf("delete subscription %s: %w", d.Name, err)
	}
	if err := ts.publishChange(ctx, topic); err != nil {
		return err
	}
	return ts.eraseEnded(ctx, sub.with(topic))
}

// eraseEnded removes what an ended subscription remembers. From its end on nobody adds to it.
func (ts *Topics) eraseEnded(ctx context.Context, sub Subscription) error {
	left, err := ts.messages.Erase(context.WithoutCancel(ctx), sub, true)
	if left > 0 {
		ts.log.WarnContext(ctx, "unfinished messages given up with their subscription", "subscription", sub.Name,
			"messages", left)
	}
	return err
}

func (ts *Topics) deleteDefault(ctx context.Context, sub Subscription, d Deletion, actor, reason string) error {
	none := ""
	_, err := ts.update(ctx, Change{URL: &none}, d.GiveUp,
		adminlog.Act{Actor: actor, Action: "topic.update", Target: sub.Topic, Reason: reason})
	return err
}

// changeWithin changes something of a topic in one transaction, which gives the topic its next version.
func (ts *Topics) changeWithin(ctx context.Context, name string, change func(tx *gorm.DB, after Topic) error,
) (Topic, error) {
	var after Topic
	err := ts.db.Tx(ctx, func(tx *gorm.DB) error {
		before, err := lockTopic(tx, name)
		if err != nil {
			return err
		}
		after = before.changed(ts.now())
		if err := tx.Model(&Topic{}).Where("name = ?", name).Update("version", after.Version).Error; err != nil {
			return err
		}
		return change(tx, after)
	})
	return after, err
}

func countSubscriptions(tx *gorm.DB, topic string) (count int64, err error) {
	err = tx.Model(&Subscription{}).Where("topic = ?", topic).Count(&count).Error
	return count, err
}

func lockSubscription(tx *gorm.DB, name string) (Subscription, error) {
	var s Subscription
	err := store.ForUpdate(tx).Take(&s, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return s, ErrNoSubscription
	}
	return s, err
}
