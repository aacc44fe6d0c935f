package delay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/apart"
)

// firstDue says when the first message of a topic is due.
type firstDue struct {
	topic Topic
	wait  time.Duration // until then; 0 or less is due
	none  bool          // nothing waits
	err   error         // why wait is unknown
}

// firstDue looks up the first message of every topic in one round trip. A topic that cannot be looked up has an error
// of its own.
func (s *Store) firstDue(ctx context.Context, topics []Topic) []firstDue {
	keys := make([]string, len(topics))
	for i, t := range topics {
		keys[i] = s.keysOf(t.Name).due
	}
	answers, failed := runEach(ctx, s.rdb, s.scripts.head, keys)
	found := make([]firstDue, len(topics))
	for i, t := range topics {
		found[i] = firstDue{topic: t, none: len(answers[i]) == 0, err: failed[i]}
		if !found[i].none {
			ms, err := strconv.ParseInt(answers[i][0].(string), 10, 64)
			found[i].wait, found[i].err = time.Duration(ms)*time.Millisecond, err
		}
	}
	return found
}

// byServer groups topics by the server that holds their messages.
func (s *Store) byServer(ctx context.Context, topics []Topic) map[string][]Topic {
	names, named := make([]string, len(topics)), make(map[string]Topic, len(topics))
	for i, t := range topics {
		names[i], named[t.Name] = t.Name, t
	}
	groups := map[string][]Topic{}
	for server, some := range apart.ByServer(ctx, s.rdb, names,
		func(name string) string { return s.keysOf(name).due }) {
		for _, name := range some {
			groups[server] = append(groups[server], named[name])
		}
	}
	return groups
}

// claim leases up to most due messages and counts an attempt of each.
func (s *Store) claim(ctx context.Context, topic string, most int) ([]delivery, error) {
	k, token := s.keysOf(topic), rand.Text()[:16]
	reply, err := s.scripts.claim.RunList(ctx, s.rdb, []string{k.due, k.firing, k.messages, k.tries}, most,
		s.cfg.Lease.Milliseconds(), token)
	if err != nil {
		return nil, err
	}
	now := parseMillis(reply[0].(string)).UnixMilli()
	var claimed []delivery
	for i := 1; i+3 < len(reply); i += 4 {
		attempt, err1 := strconv.Atoi(reply[i+1].(string))
		due, err2 := strconv.ParseFloat(reply[i+2].(string), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("claim messages of topic %s: %w", topic, err)
		}
		claimed = append(claimed, delivery{ID: reply[i].(string), Attempt: attempt, Due: int64(due),
			Body:  []byte(reply[i+3].(string)),
			token: token, lateness: time.Duration(now-int64(due)) * time.Millisecond})
	}
	return claimed, nil
}

// settle stores up to 1,000 outcomes and reports which were stored. The others were fenced, because their lease had
// ended.
func (s *Store) settle(ctx context.Context, topic string, outcomes []outcome) ([]bool, error) {
	k := s.keysOf(topic)
	args := make([]any, 1, 1+5*len(outcomes))
	args[0] = s.cfg.Keep
	for _, o := range outcomes {
		args = append(args, o.ID, o.token, string(o.op), o.value, storable(o.err))
	}
	reply, err := s.scripts.settle.RunList(ctx, s.rdb, []string{k.due, k.firing, k.messages, k.tries, k.dead, k.done},
		args...)
	if err != nil {
		return nil, err
	}
	stored := make([]bool, len(outcomes))
	for i := range stored {
		stored[i] = reply[i].(int64) == 1
	}
	return stored, nil
}

const unreported = "the last attempt began but its result was never stored"

// reclaimCounts says what became of messages whose lease had run out.
type reclaimCounts struct {
	again, dead int64  // due again, out of attempts
	deadID      string // one of the dead
}

// reclaim takes over up to 1,000 messages whose lease has run out.
func (s *Store) reclaim(ctx context.Context, t Topic) (reclaimCounts, error) {
	k := s.keysOf(t.Name)
	reply, err := s.scripts.reclaim.RunList(ctx, s.rdb, []string{k.due, k.firing, k.tries, k.dead}, maxBatch,
		t.Retries+1, unreported)
	if err != nil {
		return reclaimCounts{}, err
	}
	return reclaimCounts{reply[0].(int64), reply[1].(int64), reply[2].(string)}, nil
}

// Counts says how many unfinished messages a topic has, by state.
type Counts struct{ Pending, Firing, Retrying, Dead int64 }

// Count counts the unfinished messages of topics in one round trip. One that cannot be counted has an error of its own.
func (s *Store) Count(ctx context.Context, topics []Topic) ([]Counts, []error) {
	pipe := s.rdb.Pipeline()
	lengths := make([][4]*redis.IntCmd, len(topics))
	for i, t := range topics {
		k := s.keysOf(t.Name)
		lengths[i] = [4]*redis.IntCmd{pipe.ZCard(ctx, k.due), pipe.ZCard(ctx, k.firing), pipe.ZCard(ctx, k.dead),
			pipe.HLen(ctx, k.tries)}
	}
	if len(topics) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	counts, failed := make([]Counts, len(topics)), make([]error, len(topics))
	for i, l := range lengths {
		if err := errors.Join(l[0].Err(), l[1].Err(), l[2].Err(), l[3].Err()); err != nil {
			failed[i] = fmt.Errorf("count the messages of topic %s: %w", topics[i].Name, err)
			continue
		}
		// Every message that is firing, retrying or dead has a try. The lengths are read at different moments, so none
		// may go below 0.
		retrying := max(l[3].Val()-l[1].Val()-l[2].Val(), 0)
		counts[i] = Counts{Pending: max(l[0].Val()-retrying, 0), Firing: l[1].Val(), Retrying: retrying,
			Dead: l[2].Val()}
	}
	return counts, failed
}
