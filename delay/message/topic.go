package message

import (
	"context"
	"fmt"

	"sluice/delay"
)

// Reopen lets a topic that was deleted just before take messages again.
func (s *Store) Reopen(ctx context.Context, t delay.Topic) error {
	at, err := s.at(t.Store)
	if err == nil {
		err = at.failed(at.Redis.Del(ctx, at.topicKeys(t.Name).gone).Err())
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Name, err)
	}
	return nil
}

// Forget removes a topic's keys, or returns ErrTopicInUse.
func (s *Store) Forget(ctx context.Context, t delay.Topic) error {
	at, err := s.at(t.Store)
	if err != nil {
		return err
	}
	k, of := at.keysOf(delay.OwnOf(t.Name)), at.topicKeys(t.Name)
	reply, err := at.run(ctx, s.scripts.forget, []string{k.messages, k.done, k.tries, of.gone, of.version,
		k.about, k.missed, k.warned, k.told, of.waited, of.added}, delay.GoneFor.Milliseconds())
	if err == nil && reply[0].(int64) > 0 {
		err = fmt.Errorf("topic %s has %d: %w", t.Name, reply[0], delay.ErrTopicInUse)
	}
	return err
}

// Erase removes all messages of a subscription, and returns how many unfinished ones there are. Where they are not to
// be given up, they keep everything.
func (s *Store) Erase(ctx context.Context, sub delay.Subscription, giveUp bool) (unfinished int64, err error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return 0, err
	}
	k, give := at.keysOf(sub), 0
	if giveUp {
		give = 1
	}
	reply, err := at.run(ctx, s.scripts.erase, []string{k.messages, k.done, k.tries, k.due, k.firing, k.dead,
		k.missed, k.warned, k.told, k.about}, give)
	if err != nil {
		return 0, err
	}
	return reply[0].(int64), nil
}

// Unfinished counts the unfinished messages of topics, those of all of their subscriptions together.
func (s *Store) Unfinished(ctx context.Context, subs []delay.Subscription) (map[string]int64, map[string]error) {
	sums, failed := map[string]int64{}, map[string]error{}
	counts, errs := s.Count(ctx, subs)
	for i, sub := range subs {
		sums[sub.Topic] += counts[i].Unfinished()
		if errs[i] != nil {
			failed[sub.Topic] = errs[i]
		}
	}
	return sums, failed
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

// Raise makes the version of a topic known, unless a newer one is.
func (s *Store) Raise(ctx context.Context, t delay.Topic) error { return s.raise(ctx, t, "") }

// ReplaceVersion makes the version of a topic known in the place of one that no database knows.
func (s *Store) ReplaceVersion(ctx context.Context, t delay.Topic, lost int64) error {
	return s.raise(ctx, t, lost)
}

func (s *Store) raise(ctx context.Context, t delay.Topic, lost any) error {
	at, err := s.at(t.Store)
	if err != nil {
		return err
	}
	_, err = at.run(ctx, s.scripts.raise, []string{at.topicKeys(t.Name).version}, t.Version, lost)
	return err
}
