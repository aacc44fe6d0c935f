package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of the history of one order. Only orders that failed, were retried or
// crashed their worker have one.
const (
	keepSteps    = 50
	keepStepsFor = 7 * 24 * time.Hour // after the last step
)

// Step is one attempt to make an order of a ticket, as the worker saw it.
type Step struct {
	OrderID  string        `json:"-"`
	At       time.Time     `json:"at"` // by the worker's clock
	Took     time.Duration `json:"took"`
	Attempt  int           `json:"attempt"` // from 1
	Instance string        `json:"instance"`
	What     string        `json:"what"`   // how it ended
	Reason   string        `json:"reason"` // why; may be empty
}

// NoteSteps adds to the histories of orders, in one round trip. Of each the
// last 50 steps are kept, for a week after the last.
func (l *Line) NoteSteps(ctx context.Context, steps []Step) error {
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, s := range steps {
			s.Reason = cleanReason(s.Reason)
			text, err := json.Marshal(s)
			if err != nil {
				return err
			}
			key := l.keys.stepsOf(s.OrderID)
			pipe.RPush(ctx, key, text)
			pipe.LTrim(ctx, key, -keepSteps, -1)
			pipe.PExpire(ctx, key, keepStepsFor)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d steps of %s: %w", len(steps), l.sale, err)
	}
	return nil
}

// Steps returns the history of one order, oldest first; none for an order that
// went through at once.
func (l *Line) Steps(ctx context.Context, id string) ([]Step, error) {
	texts, err := l.rdb.LRange(ctx, l.keys.stepsOf(id), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the steps of %s in %s: %w", id, l.sale, err)
	}
	steps := make([]Step, 0, len(texts))
	for _, text := range texts {
		s := Step{OrderID: id}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return nil, fmt.Errorf("a step of %s in %s is not one: %w", id, l.sale, err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}
