package delay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/store"
)

// The topics whose messages a channel sends to people, where others call a receiver. They are there where the channel
// is enabled.
const (
	TopicSMS   = "sms"
	TopicEmail = "email"
)

// ChannelTopics returns the names that are kept for these topics.
func ChannelTopics() []string { return []string{TopicEmail, TopicSMS} }

// Channel is the kind of the one subscription of such a topic.
const Channel = "channel"

// ByChannel reports whether a channel sends the topic's messages. A topic of an older version that has such a name and
// calls a URL stays as it is.
func (t Topic) ByChannel() bool { return t.URL == "" && slices.Contains(ChannelTopics(), t.Name) }

// channelTopic returns the row of such a topic. Its delay, retries, schedule, alert address and switch can be changed.
func channelTopic(name string, cfg Config, ts *Topics) Topic {
	t := newTopic(name, cfg, ts.now())
	t.Secret = newSecret() // signs nothing
	return t
}

// makeChannelTopics adds those that are not there yet.
func (ts *Topics) makeChannelTopics(ctx context.Context) error {
	var errs []error
	for _, name := range ts.channels {
		if _, known := ts.Snapshot().topics[name]; known {
			continue
		}
		topic := channelTopic(name, ts.cfg, ts)
		err := ts.db.Write.WithContext(ctx).Create(&topic).Error
		switch {
		case store.Duplicate(err): // another process was first
			err = ts.Refresh(ctx)
		case err == nil:
			err = ts.publishChange(ctx, topic)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("make topic %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// noTopic says that there is no such topic, or which channel it would need.
func (ts *Topics) noTopic(name string) error {
	if slices.Contains(ChannelTopics(), name) && !slices.Contains(ts.channels, name) {
		return fmt.Errorf("topic %s: %w", name, ErrChannelOff)
	}
	return fmt.Errorf("topic %s: %w", name, ErrNoTopic)
}
