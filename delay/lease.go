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
	"sluice/internal/luascript"
)

// firstDue says when the first message of a subscription is due.
type firstDue struct {
	sub  Subscription
	wait time.Duration // until then; 0 or less is due
	none bool          // nothing waits
	err  error         // why wait is unknown
}

// firstDue looks up the first message of every subscription in one round trip. One that cannot be looked up has an
// error of its own.
func (s *Store) firstDue(ctx context.Context, subs []Subscription) []firstDue {
	calls := make([]luascript.Call, len(subs))
	for i, sub := range subs {
		calls[i].Keys = []string{s.keysOf(sub).due}
	}
	found := make([]firstDue, len(subs))
	for i, reply := range s.scripts.head.RunEach(ctx, s.rdb, calls) {
		answer, err := reply.List()
		found[i] = firstDue{sub: subs[i], none: len(answer) == 0, err: err}
		if !found[i].none {
			ms, err := strconv.ParseInt(answer[0].(string), 10, 64)
			found[i].wait, found[i].err = time.Duration(ms)*time.Millisecond, err
		}
	}
	return found
}

// byServer groups subscriptions by the server that holds their messages.
func (s *Store) byServer(ctx context.Context, subs []Subscription) map[string][]Subscription {
	names, named := make([]string, len(subs)), make(map[string]Subscription, len(subs))
	for i, sub := range subs {
		names[i], named[sub.Name] = sub.Name, sub
	}
	groups := map[string][]Subscription{}
	for server, some := range apart.ByServer(ctx, s.rdb, names,
		func(name string) string { return s.keysOf(named[name]).due }) {
		for _, name := range some {
			groups[server] = append(groups[server], named[name])
		}
	}
	return groups
}

// claim leases up to most due messages and counts an attempt of each. It returns a staleError when the subscription was
// changed meanwhile. If the answer is lost, what was claimed is handed back: nobody would deliver it.
func (s *Store) claim(ctx context.Context, sub Subscription, most int) ([]delivery, error) {
	k, token := s.keysOf(sub), rand.Text()[:tokenSize]
	reply, err := s.scripts.claim.RunList(ctx, s.rdb,
		[]string{k.due, k.firing, k.messages, k.tries, s.topicKeys(sub.Topic).version}, most,
		s.leaseOf(sub).Milliseconds(), token, sub.version)
	if err != nil {
		if answered, ok := errors.AsType[redis.Error](err); !ok || answered == nil {
			err = errors.Join(err, s.release(ctx, sub, token))
		}
		return nil, err
	}
	if reply[0].(string) == "" {
		return nil, staleAs(reply[1])
	}
	now := parseMillis(reply[0].(string)).UnixMilli()
	var claimed []delivery
	for i := 1; i+3 < len(reply); i += 4 {
		attempt, err1 := strconv.Atoi(reply[i+1].(string))
		due, err2 := strconv.ParseFloat(reply[i+2].(string), 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("claim messages of %s: %w", sub.Title(), err)
		}
		claimed = append(claimed, delivery{ID: reply[i].(string), Attempt: attempt, Due: int64(due),
			Body:  []byte(reply[i+3].(string)),
			token: token, lateness: time.Duration(now-int64(due)) * time.Millisecond})
	}
	return claimed, nil
}

// tokenSize is how many letters a lease's token has.
const tokenSize = 16

// leaseOf returns how long a claimed message is its deliverer's.
func (s *Store) leaseOf(sub Subscription) time.Duration {
	if sub.Kind == Pull {
		return sub.Lease()
	}
	return s.cfg.Lease
}

// release hands back what was claimed with a token.
func (s *Store) release(ctx context.Context, sub Subscription, token string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimTimeout)
	defer cancel()
	k := s.keysOf(sub)
	_, err := s.scripts.release.RunList(ctx, s.rdb, []string{k.due, k.firing, k.messages, k.tries}, token)
	return err
}

// extend moves the ends of leases and reports which stood.
func (s *Store) extend(ctx context.Context, sub Subscription, by time.Duration, leases []lease) ([]bool, error) {
	k := s.keysOf(sub)
	args := append(make([]any, 0, 1+2*len(leases)), by.Milliseconds())
	for _, l := range leases {
		args = append(args, l.id, l.token)
	}
	reply, err := s.scripts.extend.RunList(ctx, s.rdb, []string{k.firing, k.tries}, args...)
	if err != nil {
		return nil, err
	}
	return stands(reply), nil
}

// stands reads per message whether its lease stood.
func stands(reply []any) []bool {
	stood := make([]bool, len(reply))
	for i := range stood {
		stood[i] = reply[i].(int64) == 1
	}
	return stood
}

// settle stores up to 1,000 outcomes and reports which were stored. The others were fenced, because their lease had
// ended.
func (s *Store) settle(ctx context.Context, sub Subscription, outcomes []outcome) ([]bool, error) {
	k := s.keysOf(sub)
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
	return stands(reply), nil
}

const unreported = "the last attempt began but its result was never stored"

// reclaimCounts says what became of messages whose lease had run out.
type reclaimCounts struct {
	again, dead int64  // due again, out of attempts
	deadID      string // one of the dead
}

// reclaim takes over up to 1,000 messages whose lease has run out.
func (s *Store) reclaim(ctx context.Context, sub Subscription) (reclaimCounts, error) {
	k := s.keysOf(sub)
	reply, err := s.scripts.reclaim.RunList(ctx, s.rdb, []string{k.due, k.firing, k.tries, k.dead}, maxBatch,
		sub.Retries+1, unreported)
	if err != nil {
		return reclaimCounts{}, err
	}
	return reclaimCounts{reply[0].(int64), reply[1].(int64), reply[2].(string)}, nil
}

// Counts says how many unfinished messages there are, by state.
type Counts struct{ Pending, Firing, Retrying, Dead int64 }

// Unfinished returns how many there are in all.
func (c Counts) Unfinished() int64 { return c.Pending + c.Firing + c.Retrying + c.Dead }

// plus returns the sums.
func (c Counts) plus(o Counts) Counts {
	return Counts{c.Pending + o.Pending, c.Firing + o.Firing, c.Retrying + o.Retrying, c.Dead + o.Dead}
}

// Count counts the unfinished messages of subscriptions in one round trip. One that cannot be counted has an error of
// its own.
func (s *Store) Count(ctx context.Context, subs []Subscription) ([]Counts, []error) {
	pipe := s.rdb.Pipeline()
	lengths := make([][4]*redis.IntCmd, len(subs))
	for i, sub := range subs {
		k := s.keysOf(sub)
		lengths[i] = [4]*redis.IntCmd{pipe.ZCard(ctx, k.due), pipe.ZCard(ctx, k.firing), pipe.ZCard(ctx, k.dead),
			pipe.HLen(ctx, k.tries)}
	}
	if len(subs) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	counts, failed := make([]Counts, len(subs)), make([]error, len(subs))
	for i, l := range lengths {
		if err := errors.Join(l[0].Err(), l[1].Err(), l[2].Err(), l[3].Err()); err != nil {
			failed[i] = fmt.Errorf("count the messages of %s: %w", subs[i].Title(), err)
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

// Missed returns how many messages each subscription had no room for, ever.
func (s *Store) Missed(ctx context.Context, subs []Subscription) ([]int64, []error) {
	pipe := s.rdb.Pipeline()
	found := make([]*redis.StringCmd, len(subs))
	for i, sub := range subs {
		found[i] = pipe.Get(ctx, s.keysOf(sub).missed)
	}
	if len(subs) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	missed, failed := make([]int64, len(subs)), make([]error, len(subs))
	for i, one := range found {
		n, err := one.Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			failed[i] = fmt.Errorf("read what %s missed: %w", subs[i].Title(), err)
		}
		missed[i] = n
	}
	return missed, failed
}
