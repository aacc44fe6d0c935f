package notify

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"
)

const (
	sweepChunk  = 500
	sweepChunks = 20 // a channel's most in one sweep, so that deleting never crowds out delivering
	gaugePeriod = 5 * time.Second
	gaugeShare  = 50 // counting a million rows that wait must not take a share of the database that grows with them
)

func (r *Relay) runSweeper(ctx context.Context) {
	for ctx.Err() == nil {
		for _, l := range r.lanes {
			if err := r.sweep(ctx, l.channel.Name()); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "notify: old rows not deleted, next sweep tries again", "channel", l.channel.Name(), "error", err)
			}
		}
		idle(ctx, nil, r.cfg.Sweep)
	}
}

// sweep deletes delivered rows older than Config.Keep, a chunk a statement, at most 10,000 a call.
func (r *Relay) sweep(ctx context.Context, channel string) error {
	before := r.clock().Add(-r.cfg.Keep).UnixMilli()
	for range sweepChunks {
		n, err := r.sweepOnce(ctx, channel, before)
		if err != nil {
			return fmt.Errorf("delete delivered notifications of channel %s: %w", channel, err)
		}
		if n < sweepChunk {
			return nil
		}
	}
	return nil
}

// sweepOnce finds rows by next_at, which a delivered row keeps at its delivery: the index of due rows serves it too.
func (r *Relay) sweepOnce(ctx context.Context, channel string, before int64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	var ids []int64
	err := r.read.WithContext(ctx).Model(&Row{}).Where("state = ? AND channel = ? AND next_at < ?", StateDelivered, channel, before).
		Order("next_at").Limit(sweepChunk).Pluck("id", &ids).Error
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return len(ids), deleteDelivered(r.write.WithContext(ctx), ids)
}

func deleteDelivered(db *gorm.DB, ids []int64) error {
	return among(db, ids).Where("state = ?", StateDelivered).Delete(&Row{}).Error
}

func (r *Relay) runGauge(ctx context.Context) {
	for ctx.Err() == nil {
		began := r.clock()
		if pending, dead, err := r.count(ctx); err == nil {
			for _, l := range r.lanes {
				r.metrics.pending.WithLabelValues(l.channel.Name()).Set(float64(pending[l.channel.Name()]))
				r.metrics.dead.WithLabelValues(l.channel.Name()).Set(float64(dead[l.channel.Name()]))
			}
		} else if ctx.Err() == nil {
			r.log.DebugContext(ctx, "notify: rows not counted", "error", err)
		}
		idle(ctx, nil, max(gaugePeriod, gaugeShare*r.clock().Sub(began)))
	}
}

func (r *Relay) count(ctx context.Context) (pending, dead map[string]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if pending, err = countState(ctx, r.read, StatePending); err != nil {
		return nil, nil, err
	}
	dead, err = countState(ctx, r.read, StateDead)
	return pending, dead, err
}
