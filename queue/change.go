package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"sluice/internal/luascript"
	"sluice/store/redis"
)

// WithDurability returns the same lines, admitting only while d finds Redis
// durable enough.
func (ls *Lines) WithDurability(d *redis.Durability) *Lines {
	durable := *ls
	durable.durability = d
	return &durable
}

// checkDurability returns ErrNotReady while Redis keeps less than is asked for.
func (ls *Lines) checkDurability() error {
	if ls.durability == nil {
		return nil
	}
	if err := ls.durability.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// acks returns how many replicas must have a write before it is answered.
func (ls *Lines) acks() int {
	n, _ := ls.durability.Acks()
	return n
}

// durably calls a script and returns when its effect is as durable as asked for. It writes a
// counter even when the script wrote nothing. WAIT speaks of this connection's last write only, and
// an answer may repeat what another connection wrote.
func (l *Line) durably(ctx context.Context, s luascript.Script, keys []string, args ...any) (any, error) {
	if err := l.checkDurability(); err != nil {
		return nil, err
	}
	n, limit := l.durability.Acks()
	if n == 0 {
		return s.Run(ctx, l.rdb, keys, args...)
	}
	node, err := l.node(ctx)
	if err != nil {
		return nil, err
	}
	reply, acknowledged := l.acknowledge(ctx, node, s, keys, args)
	if goredis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
		if err := s.Install(ctx, node); err != nil {
			return nil, s.Failed(err, keys)
		}
		reply, acknowledged = l.acknowledge(ctx, node, s, keys, args)
	}
	answer, err := reply.Result()
	if err != nil {
		return nil, s.Failed(err, keys)
	}
	got, err := acknowledged.Int64()
	if err != nil {
		return nil, fmt.Errorf("wait for the replicas of %s: %w", keys[0], err)
	}
	if got < int64(n) {
		return nil, fmt.Errorf("%w: %d of %d replicas acknowledged within %s", ErrNotReady, got, n, limit)
	}
	return answer, nil
}

// acknowledge calls a script and waits for its replicas, in one round trip.
func (l *Line) acknowledge(
	ctx context.Context, node goredis.UniversalClient, s luascript.Script, keys []string, args []any,
) (reply, acknowledged *goredis.Cmd) {
	n, limit := l.durability.Acks()
	pipe := node.Pipeline()
	reply = s.Queue(ctx, pipe, keys, args...)
	pipe.HIncrBy(ctx, l.keys.meta, metaWaited, 1)
	acknowledged = pipe.Do(ctx, "WAIT", n, limit.Milliseconds())
	_, _ = pipe.Exec(ctx) // each command has its own error
	return reply, acknowledged
}

// node returns the one server that holds this line. WAIT names no key, so a cluster client would
// send it anywhere.
func (l *Line) node(ctx context.Context) (goredis.UniversalClient, error) {
	cluster, ok := l.rdb.(*goredis.ClusterClient)
	if !ok {
		return l.rdb, nil
	}
	master, err := cluster.MasterForKey(ctx, l.keys.meta)
	if err != nil {
		return nil, fmt.Errorf("find the master of %s: %w", l.keys.meta, err)
	}
	return master, nil
}

// epochBits is where the epoch stands in a revision.
const epochBits = 32

// firstRevision returns the first revision of an epoch. It grows with both, so whoever has seen a newer
// epoch has seen a higher revision. Lua counts it exactly up to epoch 2,097,152.
func firstRevision(epoch int64) int64 { return epoch << epochBits }

// watermark is the newest that this process has seen of one line. Every call that takes units hands it in: a line that
// is older has lost what somebody was answered. Safe for concurrent use.
type watermark struct {
	mu           sync.Mutex
	revision     int64
	sequence     int64 // of the newest ticket under the revision's epoch
	earlierEpoch int64 // that was seen before this one
	earlierSeq   int64 // of the newest ticket under it
}

// note records what a reply said; sequence is 0 where it said none.
func (s *watermark) note(revision, sequence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch epoch := revision >> epochBits; {
	case epoch > s.revision>>epochBits:
		if s.sequence > 0 {
			s.earlierSeq, s.earlierEpoch = s.sequence, s.revision>>epochBits
		}
		s.sequence = sequence
	case epoch == s.revision>>epochBits:
		s.sequence = max(s.sequence, sequence)
	case epoch > s.earlierEpoch && sequence > 0:
		s.earlierSeq, s.earlierEpoch = sequence, epoch
	case epoch == s.earlierEpoch:
		s.earlierSeq = max(s.earlierSeq, sequence)
	}
	s.revision = max(s.revision, revision)
}

// newestRevision returns the highest revision seen.
func (s *watermark) newestRevision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// SeenBefore returns the highest sequence of a ticket that this process has seen in the line before an epoch. It also
// returns the epoch under which it was, or 0 and 0 when it has seen none.
func (l *Line) SeenBefore(epoch int64) (sequence, under int64) {
	s := l.keys.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.revision >> epochBits; now < epoch && s.sequence > 0 {
		return s.sequence, now
	}
	return s.earlierSeq, s.earlierEpoch
}

// change runs a script that answers with a number and, where it changed the line, its new revision.
func (l *Line) change(ctx context.Context, s luascript.Script, keys []string, args ...any) (int64, error) {
	list, err := s.RunList(ctx, l.rdb, keys, args...)
	return l.readChange(s, list, err)
}

// changeDurably runs change for what an owner is answered: where replicas must acknowledge, it waits for them.
func (l *Line) changeDurably(ctx context.Context, s luascript.Script, keys []string, args ...any) (int64, error) {
	if l.acks() == 0 {
		return l.change(ctx, s, keys, args...)
	}
	reply, err := l.durably(ctx, s, keys, args...)
	list, err := s.List(reply, err, keys)
	return l.readChange(s, list, err)
}

// readChange reads the reply to a script that change runs.
func (l *Line) readChange(s luascript.Script, list []any, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, s.Failed(errors.New("it answered nothing"), []string{l.sale})
	}
	if len(list) > 1 {
		l.keys.seen.note(toInt(list[1]), 0)
	}
	return toInt(list[0]), nil
}

// checkReady returns ErrNotReady for a change that answered less than 0: the line was not ready, and nothing was done.
func checkReady(n int64, err error) error {
	if err == nil && n < 0 {
		return ErrNotReady
	}
	return err
}
