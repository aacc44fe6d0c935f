package message

import (
	"context"
	"errors"
	"time"

	"sluice/delay"
)

// SettleTimeout bounds one Settle.
const SettleTimeout = 3 * time.Second

// Extend moves the ends of leases and reports which stood.
func (s *Store) Extend(ctx context.Context, sub delay.Subscription, by time.Duration, leases []Lease) ([]bool, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return nil, err
	}
	k := at.keysOf(sub)
	args := append(make([]any, 0, 1+2*len(leases)), by.Milliseconds())
	for _, l := range leases {
		args = append(args, l.ID, l.Token)
	}
	reply, err := at.run(ctx, s.scripts.extend, []string{k.firing, k.tries}, args...)
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

// Settle stores up to 1,000 outcomes and reports which were stored. The others were fenced, because their lease had
// ended. Where the error wraps delay.ErrNotReplicated they are stored all the same, and reported.
func (s *Store) Settle(ctx context.Context, sub delay.Subscription, outcomes []Outcome) ([]bool, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return nil, err
	}
	k := at.keysOf(sub)
	args := make([]any, 1, 1+5*len(outcomes))
	args[0] = s.cfg.Keep
	for _, o := range outcomes {
		args = append(args, o.id, o.token, string(o.op), o.value, storable(o.err))
	}
	reply, err := at.durably(ctx, at.topicKeys(sub.Topic).waited, s.scripts.settle,
		[]string{k.due, k.firing, k.messages, k.tries, k.dead, k.done, k.about}, args...)
	if err != nil && !errors.Is(err, delay.ErrNotReplicated) {
		return nil, err
	}
	return stands(reply), err
}

// Unreported is the error of an attempt whose result never came.
const Unreported = "the last attempt began but its result was never stored"

// Reclaimed says what became of messages whose lease had run out.
type Reclaimed struct {
	Again, Dead int64  // due again, out of attempts
	DeadID      string // one of the dead
}

// Reclaim takes over up to 1,000 messages whose lease has run out.
func (s *Store) Reclaim(ctx context.Context, sub delay.Subscription) (Reclaimed, error) {
	at, err := s.at(sub.Store)
	if err != nil {
		return Reclaimed{}, err
	}
	k := at.keysOf(sub)
	reply, err := at.run(ctx, s.scripts.reclaim, []string{k.due, k.firing, k.tries, k.dead}, delay.MaxBatch,
		sub.Retries+1, Unreported)
	if err != nil {
		return Reclaimed{}, err
	}
	return Reclaimed{reply[0].(int64), reply[1].(int64), reply[2].(string)}, nil
}
