package message

import (
	"context"
	"fmt"

	"sluice/delay"
)

// Reopen lets a topic that was deleted just before take messages again.
func (s *Store) Reopen(ctx context.Context, topic string) error {
	if err := s.rdb.Del(ctx, s.topicKeys(topic).gone).Err(); err != nil {
		return fmt.Errorf("topic %s: %w", topic, err)
	}
	return nil
}

// Forget removes a topic's keys, or returns ErrTopicInUse.
func (s *Store) Forget(ctx context.Context, topic string) error {
	k, of := s.keysOf(delay.OwnOf(topic)), s.topicKeys(topic)
	reply, err := s.scripts.forget.RunList(ctx, s.rdb, []string{k.messages, k.done, k.tries, of.gone, of.version,
		k.about, k.missed, k.warned, k.told}, delay.GoneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", topic, reply[0], delay.ErrTopicInUse)
	}
	return err
}

// Erase removes all messages of a subscription, and returns how many unfinished ones there are. Where they are not to
// be given up, they keep everything.
func (s *Store) Erase(ctx context.Context, sub delay.Subscription, giveUp bool) (unfinished int64, err error) {
	k, give := s.keysOf(sub), 0
	if giveUp {
		give = 1
	}
	reply, err := s.scripts.erase.RunList(ctx, s.rdb, []string{k.messages, k.done, k.tries, k.due, k.firing, k.dead,
		k.missed, k.warned, k.told, k.about}, give)
	if err != nil {
		return 0, err
	}
	return reply[0].(int64), nil
}

// Unused returns an error that wraps inUse while a subscription has unfinished messages.
func (s *Store) Unused(ctx context.Context, sub delay.Subscription, inUse error) error {
	counts, failed := s.Count(ctx, []delay.Subscription{sub})
	if failed[0] != nil {
		return failed[0]
	}
	if n := counts[0].Unfinished(); n > 0 {
		return fmt.Errorf("%s has %d: %w", sub.Title(), n, inUse)
	}
	return nil
}

// Raise makes a version of a topic known, unless a newer one is.
func (s *Store) Raise(ctx context.Context, topic string, version int64) error {
	_, err := s.scripts.raise.RunList(ctx, s.rdb, []string{s.topicKeys(topic).version}, version, "")
	return err
}

// ReplaceVersion makes a version known in the place of one that no database knows.
func (s *Store) ReplaceVersion(ctx context.Context, topic string, version, lost int64) error {
	_, err := s.scripts.raise.RunList(ctx, s.rdb, []string{s.topicKeys(topic).version}, version, lost)
	return err
}
