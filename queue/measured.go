package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// NoteDrainRate keeps the pace, in tickets per second, at which a line was last
// seen draining, for lines and processes that have measured nothing yet.
func (ls *Lines) NoteDrainRate(ctx context.Context, perSecond float64) error {
	if err := ls.rdb.Set(ctx, ls.paceKey, strconv.FormatFloat(perSecond, 'f', 3, 64), 0).Err(); err != nil {
		return fmt.Errorf("keep the measured pace: %w", err)
	}
	return nil
}

// DrainRate returns what NoteDrainRate kept last, by whichever process; 0 when nothing.
func (ls *Lines) DrainRate(ctx context.Context) (float64, error) {
	perSecond, err := ls.rdb.Get(ctx, ls.paceKey).Float64()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the measured pace: %w", err)
	}
	return max(perSecond, 0), nil
}
