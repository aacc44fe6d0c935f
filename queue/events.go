package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"sluice/store/redis"
)

// NoteDrainRate keeps the drain rate, in tickets per second, that was measured last. Lines and processes that have
// measured nothing yet go by it.
func (ls *Lines) NoteDrainRate(ctx context.Context, perSecond float64) error {
	if err := ls.rdb.Set(ctx, ls.drainRateKey, strconv.FormatFloat(perSecond, 'f', 3, 64), 0).Err(); err != nil {
		return fmt.Errorf("keep the measured drain rate: %w", err)
	}
	return nil
}

// DrainRate returns what NoteDrainRate kept last, by whichever process; 0 when nothing.
func (ls *Lines) DrainRate(ctx context.Context) (float64, error) {
	perSecond, err := ls.rdb.Get(ctx, ls.drainRateKey).Float64()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the measured drain rate: %w", err)
	}
	return max(perSecond, 0), nil
}

// Event says that an order's state has changed.
type Event struct {
	Sale, OrderID string
	State         State
}

// Listen calls tell for every change that any process settles, until ctx ends. Messages sent while
// the connection to Redis was away are lost. Whoever waits for one must also look by itself now and
// then.
func (ls *Lines) Listen(ctx context.Context, tell func(Event)) {
	redis.Listen(ctx, ls.rdb, ls.statusChannel, func(payload string) {
		for _, n := range readEvents(payload) {
			tell(n)
		}
	})
}

// ListenWake calls wake with every sale whose empty line has received tickets,
// until ctx ends. As with Listen, a message may be lost.
func (ls *Lines) ListenWake(ctx context.Context, wake func(sale string)) {
	redis.Listen(ctx, ls.rdb, ls.wakeChannel, wake)
}

// ListenStock calls tell with every sale that had no unit left and has some
// again, until ctx ends. As with Listen, a message may be lost.
func (ls *Lines) ListenStock(ctx context.Context, tell func(sale string)) {
	redis.Listen(ctx, ls.rdb, ls.stockChannel, tell)
}

func readEvents(payload string) []Event {
	lines := strings.Split(payload, "\n")
	news := make([]Event, 0, len(lines)-1)
	for _, line := range lines[1:] {
		id, state, ok := strings.Cut(line, " ")
		if ok && len(state) == 1 && State(state[0]).Valid() {
			news = append(news, Event{Sale: lines[0], OrderID: id, State: State(state[0])})
		}
	}
	return news
}

// Bounds of the history of one order. Only orders that failed, were retried or
// crashed their worker have one.
const (
	keepSteps     = 50
	keepStepsFor  = 7 * 24 * time.Hour // after the last step
	keepReclaimed = 50                 // batches of a line that were taken over from their workers; at most 100 KB each
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
	_, err := l.rdb.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
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

// ReclaimedBatch is a batch that was taken over from its worker, which had died or outlived its lease.
type ReclaimedBatch struct {
	At       time.Time // when it was taken over, by Redis' clock
	Instance string    // whose worker it was; may be empty
}

// ReclaimedBatches returns the batches that were taken over while they held an order, oldest first.
// The line remembers its last 50, for a week.
func (l *Line) ReclaimedBatches(ctx context.Context, id string) ([]ReclaimedBatch, error) {
	list, err := l.scripts.reclaimed.RunList(ctx, l.rdb, []string{l.keys.reclaimed}, id)
	if err != nil {
		return nil, err
	}
	var reclaimed []ReclaimedBatch
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i+1].(string)
		instance, _ := ownerOf(name)
		reclaimed = append(reclaimed,
			ReclaimedBatch{At: time.UnixMilli(toInt(list[i])).UTC(), Instance: instance})
	}
	return reclaimed, nil
}
