// Package publish adds messages to topics, for all of their subscriptions. They come from other systems, or are order
// events, for which it is a channel of the outbox.
package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/invalid"
)

// Publisher adds messages to topics, for all of their subscriptions, and looks after them by their id. Safe for
// concurrent use.
type Publisher struct {
	topics   *delay.Topics
	messages *message.Store
	checks   map[string]BodyCheck // of topics that a channel sends
}

// BodyCheck returns which fields of a body break a rule of the channel that sends it, or nothing. It quotes nothing of
// the body.
type BodyCheck func(body []byte) invalid.Error

// New returns what adds messages to topics.
func New(topics *delay.Topics, messages *message.Store) *Publisher {
	return &Publisher{topics: topics, messages: messages}
}

// CheckBodies has the bodies of topics that a channel sends checked so, before anything is added. A topic without a
// check takes nothing. It returns p.
func (p *Publisher) CheckBodies(checks map[string]BodyCheck) *Publisher {
	p.checks = checks
	return p
}

// checkBodies returns an invalid.Error that names the fields of each body, or ErrChannelOff.
func (p *Publisher) checkBodies(topic delay.Topic, messages []delay.New) error {
	if !topic.ByChannel() {
		return nil
	}
	check, on := p.checks[topic.Name]
	if !on {
		return fmt.Errorf("topic %s: %w", topic.Name, delay.ErrChannelOff)
	}
	var bad invalid.Error
	for i, m := range messages {
		for _, field := range check(m.Body) {
			if len(bad) == 20 {
				return bad
			}
			field.Field = fmt.Sprintf("messages[%d].body%s", i, dotted(field.Field))
			bad = append(bad, field)
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

func dotted(field string) string {
	if field == "" {
		return ""
	}
	return "." + field
}

// Add takes 1 to 1,000 messages, all or none, and returns when each is due by Redis' clock. Each goes to every
// subscription of the topic whose filter takes it. It may be repeated. A message that a subscription knows with the
// same body stays as it is and gets its first answer again.
//
// A full subscription misses what it has no room for, and the others get it. Only when all that a message is for are
// full is the error ErrFull. It may also be an invalid.Error, ErrConflict, ErrNoTopic, or ErrUnsubscribed where the
// topic has no subscription at all, or ErrChannelOff. When it returns nil the messages are as durable as Redis is.
func (p *Publisher) Add(ctx context.Context, topic string, messages []delay.New) ([]time.Time, error) {
	if err := checkReserved(messages); err != nil {
		return nil, err
	}
	due, nobody, err := p.add(ctx, topic, messages)
	if err == nil && nobody {
		err = fmt.Errorf("topic %s: %w", topic, delay.ErrUnsubscribed)
	}
	return due, err
}

// addTries bounds how often a topic may change under an add.
const addTries = 5

// add adds messages as Add does, with any id. A topic without subscriptions takes nothing: nobody
// is told so.
func (p *Publisher) add(ctx context.Context, topic string, messages []delay.New,
) (due []time.Time, nobody bool, err error) {
	if err := p.messages.Check(messages); err != nil {
		return nil, false, err
	}
	a := message.Addition{Topic: topic, Messages: messages}
	for try := 1; ; try++ {
		known, err := p.find(ctx, topic)
		if err != nil {
			return nil, false, err
		}
		t, _ := known.Topic(topic)
		if err := p.checkBodies(t, messages); err != nil {
			return nil, false, err
		}
		a.Version, a.Store, a.Subscriptions = t.Version, t.Store, known.Of(topic)
		a.Era, a.Added = t.MarkEra, t.MarkAdded
		due, err := p.messages.Add(ctx, a)
		newer, stale := errors.AsType[delay.StaleError](err)
		behind, lost := errors.AsType[delay.BehindError](err)
		switch {
		case lost && try < addTries:
			// The loss is told before anything new would hide it.
			if err := p.topics.NoteLoss(ctx, topic, behind.Mark); err != nil {
				return nil, false, err
			}
			continue
		case errors.Is(err, delay.ErrNoTopic) && try < addTries && p.moved(ctx, t):
			continue
		case !stale:
			return due, len(a.Subscriptions) == 0, err
		case try == addTries:
			return nil, false, fmt.Errorf("topic %s: %w", topic, delay.ErrBehind)
		}
		if err := p.topics.CatchUp(ctx, topic, newer); err != nil {
			return nil, false, err
		}
	}
}

// moved reports whether a topic has another store by now, after the one that it had has refused its messages.
func (p *Publisher) moved(ctx context.Context, was delay.Topic) bool {
	if p.topics.Refresh(ctx) != nil {
		return false
	}
	t, exists := p.topics.Snapshot().Topic(was.Name)
	return exists && t.Store != was.Store
}

// find returns a copy that has the topic.
func (p *Publisher) find(ctx context.Context, topic string) (*delay.Snapshot, error) {
	known := p.topics.Snapshot()
	if _, ok := known.Topic(topic); ok {
		return known, nil
	}
	if _, err := p.topics.Get(ctx, topic); err != nil {
		return nil, err
	}
	if err := p.topics.Refresh(ctx); err != nil {
		return nil, err
	}
	known = p.topics.Snapshot()
	if _, ok := known.Topic(topic); !ok {
		return nil, fmt.Errorf("topic %s: %w", topic, delay.ErrNoTopic)
	}
	return known, nil
}

func checkReserved(messages []delay.New) error {
	var bad invalid.Error
	for i, m := range messages {
		if delay.Reserved(m.ID) && len(bad) < 20 {
			bad = append(bad, invalid.Field{Field: fmt.Sprintf("messages[%d].id", i),
				Detail: "must not end like the id of an order event, as in o1:order.paid"})
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// Show returns what each subscription of a topic knows of a message, the topic's own first. It returns ErrNoTopic, or
// ErrNoMessage where none knows it.
func (p *Publisher) Show(ctx context.Context, topic, id string) ([]delay.Message, error) {
	known, err := p.find(ctx, topic)
	if err != nil {
		return nil, err
	}
	var found []delay.Message
	for _, sub := range known.Of(topic) {
		m, err := p.messages.Show(ctx, sub, id)
		if errors.Is(err, delay.ErrNoMessage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("message %s of topic %s: %w", id, topic, delay.ErrNoMessage)
	}
	return found, nil
}

// Cancel ends a message in each subscription in which it waits. Cancelling again changes nothing. It returns
// ErrNoTopic, ErrNoMessage where no subscription knows it, or ErrNotWaiting where it waits in none.
func (p *Publisher) Cancel(ctx context.Context, topic, id string) error {
	known, err := p.find(ctx, topic)
	if err != nil {
		return err
	}
	cancelled, refusal := false, fmt.Errorf("message %s of topic %s: %w", id, topic, delay.ErrNoMessage)
	for _, sub := range known.Of(topic) {
		err := p.messages.Cancel(ctx, sub, id)
		switch {
		case err == nil:
			cancelled = true
		case errors.Is(err, delay.ErrNotWaiting):
			refusal = err
		case !errors.Is(err, delay.ErrNoMessage):
			return err
		}
	}
	if cancelled {
		return nil
	}
	return refusal
}
