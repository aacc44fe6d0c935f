// Package message keeps the messages of subscriptions in Redis, from their birth to their end. Each topic has its
// messages in one of several Redis, the stores.
//
// Store is the one place that calls the scripts. It takes what it is told to of which topics and subscriptions, and
// knows neither receivers nor readers. These claim from it and settle there: see push and pull.
package message

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"sluice/delay"
)

// Store keeps the messages of all subscriptions in Redis. It does not know which exist. Safe for concurrent use.
type Store struct {
	cfg     delay.Config
	places  map[string]*place
	prefix  string // names the installation in the attributes of messages
	scripts scripts
	marks   *marks
	now     func() time.Time
}

// StoreParts is what NewStore needs.
type StoreParts struct {
	Config delay.Config
	Places map[string]Place // by the name of the store
	Prefix string           // redis.prefix names the installation in attributes; empty: that of the default store
	Now    func() time.Time // only bounds how far away a due time may be
}

// NewStore returns a store of messages.
func NewStore(p StoreParts) *Store {
	return &Store{cfg: p.Config, places: newPlaces(p.Places),
		prefix: cmp.Or(p.Prefix, p.Places[delay.DefaultStore].Prefix), scripts: loadScripts(), marks: newMarks(),
		now: p.Now}
}

// Show returns one message, or ErrNoMessage.
func (s *Store) Show(ctx context.Context, sub delay.Subscription, id string) (delay.Message, error) {
	found, err := s.show(ctx, sub, []string{id})
	switch {
	case err != nil:
		return delay.Message{}, err
	case len(found) == 0:
		return delay.Message{}, fmt.Errorf("message %s of %s: %w", id, sub.Title(), delay.ErrNoMessage)
	}
	return found[0], found[0].ReadErr
}

// show returns the messages that exist, even those whose record cannot be read.
func (s *Store) show(ctx context.Context, sub delay.Subscription, ids []string) ([]delay.Message, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return nil, err
	}
	k, args := at.keysOf(sub), make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	reply, err := at.run(ctx, s.scripts.show, []string{k.due, k.firing, k.messages, k.tries, k.dead, k.about},
		args...)
	if err != nil {
		return nil, err
	}
	var found []delay.Message
	for i, id := range ids {
		part := func(n int) string { return reply[5*i+n].(string) }
		if part(0) == "" {
			continue
		}
		found = append(found, readMessage(sub, id, shownMessage{part(0), part(1), part(2), part(3), part(4)}))
	}
	return found, nil
}

// Cancel ends a message that waits; cancelling again changes nothing. It returns an error that wraps ErrNoMessage or
// ErrNotWaiting.
func (s *Store) Cancel(ctx context.Context, sub delay.Subscription, id string) error {
	at, err := s.at(sub.Store)
	if err != nil {
		return err
	}
	k := at.keysOf(sub)
	reply, err := at.durably(ctx, at.topicKeys(sub.Topic).waited, s.scripts.cancel,
		[]string{k.due, k.messages, k.tries, k.done, k.about}, id, s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNoMessage, -1: delay.ErrNotWaiting})
}

// DeadLetters lists dead letters, the newest first.
func (s *Store) DeadLetters(ctx context.Context, sub delay.Subscription, skip, limit int64) ([]delay.Message, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return nil, err
	}
	ids, err := at.Redis.ZRevRange(ctx, at.keysOf(sub).dead, skip, skip+limit-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters of %s: %w", sub.Title(), at.failed(err))
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.show(ctx, sub, ids)
}

// Retry makes a dead letter due now, with no attempt counted. It returns ErrNotDead when it is none.
func (s *Store) Retry(ctx context.Context, sub delay.Subscription, id string) error {
	at, err := s.at(sub.Store)
	if err != nil {
		return err
	}
	k := at.keysOf(sub)
	reply, err := at.durably(ctx, at.topicKeys(sub.Topic).waited, s.scripts.retry,
		[]string{k.due, k.dead, k.tries}, id, at.soonChannel(), sub.Topic)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNotDead})
}

// Drop gives up a dead letter. It returns ErrNotDead when it is none.
func (s *Store) Drop(ctx context.Context, sub delay.Subscription, id string) error {
	at, err := s.at(sub.Store)
	if err != nil {
		return err
	}
	k := at.keysOf(sub)
	reply, err := at.durably(ctx, at.topicKeys(sub.Topic).waited, s.scripts.drop,
		[]string{k.dead, k.messages, k.tries, k.done, k.about}, id, s.cfg.Keep)
	return replyError(reply, err, sub, id, map[int64]error{0: delay.ErrNotDead})
}

// replyError turns the number that a script returned into an error: errs maps it, 1 is success.
func replyError(reply []any, err error, sub delay.Subscription, id string, errs map[int64]error) error {
	if err != nil {
		return err
	}
	if err := errs[reply[0].(int64)]; err != nil {
		return fmt.Errorf("message %s of %s: %w", id, sub.Title(), err)
	}
	return nil
}
