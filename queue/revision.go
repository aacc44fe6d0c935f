package queue

import (
	"context"
	"errors"
	"sync"

	"sluice/internal/luascript"
)

// epochBits is where the epoch stands in a revision.
const epochBits = 32

// firstRevision is the first revision of an epoch. It grows with both, so whoever has seen a newer epoch has seen a higher
// revision. Lua counts it exactly up to epoch 2,097,152.
func firstRevision(epoch int64) int64 { return epoch << epochBits }

// seen is the newest that this process has seen of one line. It is handed in with every call that takes units: a line that is
// older than that has lost what somebody was told. Safe for concurrent use.
type seen struct {
	mu       sync.Mutex
	revision int64
	sequence int64 // of the newest ticket under the revision's epoch
	earlier  int64 // of the newest ticket under the epoch that was seen before it
	left     int64 // that epoch
}

// note records what a reply said; sequence is 0 where it said none.
func (s *seen) note(revision, sequence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch epoch := revision >> epochBits; {
	case epoch > s.revision>>epochBits:
		if s.sequence > 0 {
			s.earlier, s.left = s.sequence, s.revision>>epochBits
		}
		s.sequence = sequence
	case epoch == s.revision>>epochBits:
		s.sequence = max(s.sequence, sequence)
	case epoch > s.left && sequence > 0:
		s.earlier, s.left = sequence, epoch
	case epoch == s.left:
		s.earlier = max(s.earlier, sequence)
	}
	s.revision = max(s.revision, revision)
}

func (s *seen) newest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// SeenBefore returns the highest sequence of a ticket that this process has seen in the line under the last epoch before this one
// of which it has seen any, and that epoch; 0 when none.
func (l *Line) SeenBefore(epoch int64) (sequence, under int64) {
	s := l.keys.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.revision >> epochBits; now < epoch && s.sequence > 0 {
		return s.sequence, now
	}
	return s.earlier, s.left
}

// change runs a script that answers with a number and, where it changed the line, its new revision.
func (l *Line) change(ctx context.Context, s luascript.Script, keys []string, args ...any) (int64, error) {
	list, err := s.RunList(ctx, l.rdb, keys, args...)
	return l.changed(s, list, err)
}

// changeDurably is change for what an owner is told: where replicas must acknowledge, it returns when they have.
func (l *Line) changeDurably(ctx context.Context, s luascript.Script, keys []string, args ...any) (int64, error) {
	if l.acks() == 0 {
		return l.change(ctx, s, keys, args...)
	}
	reply, err := l.durably(ctx, s, keys, args...)
	list, err := s.List(reply, err, keys)
	return l.changed(s, list, err)
}

// changed reads the reply to a script that change runs.
func (l *Line) changed(s luascript.Script, list []any, err error) (int64, error) {
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

// ready is the error of a change that answered n: below 0 the line was not ready, and nothing was done.
func (l *Line) ready(n int64, err error) error {
	if err == nil && n < 0 {
		return ErrNotReady
	}
	return err
}
