package relay

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"sluice/internal/apart"
	"sluice/notify"
)

const (
	sweepChunk  = 500
	sweepChunks = 20 // of one state in one sweep, so that deleting leaves time for delivering
	gaugePeriod = 5 * time.Second
	gaugeShare  = 50 // counting takes at most 1/50 of the time, however many rows there are
)

// runSweeper deletes old rows of each channel, every Config.Sweep, until ctx ends.
func (r *Relay) runSweeper(ctx context.Context) {
	for ctx.Err() == nil {
		for _, l := range r.loops {
			err := apart.Try(func() error { return r.sweep(ctx, l.channel.Name()) })
			if err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "notify: old rows not deleted, next sweep tries again",
					"channel", l.channel.Name(), "error", err)
			}
		}
		if err := apart.Try(func() error { return r.sweepOff(ctx) }); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "notify: rows of channels that are off not swept, next sweep tries again",
				"error", err)
		}
		idle(ctx, nil, r.cfg.Sweep)
	}
}

// sweep deletes delivered and overtaken rows older than Config.Keep, at most 10,000 of each a call.
func (r *Relay) sweep(ctx context.Context, channel string) error {
	before := r.clock().Add(-r.cfg.Keep).UnixMilli()
	for _, state := range []int{notify.StateDelivered, notify.StateOvertaken} {
		for range sweepChunks {
			n, err := r.sweepOnce(ctx, channel, state, before)
			if err != nil {
				return fmt.Errorf("delete finished notifications of channel %s: %w", channel, err)
			}
			if n < sweepChunk {
				break
			}
		}
	}
	return nil
}

// sweepOnce deletes one chunk and returns how many rows it had. It finds rows by next_at, which says when they ended,
// with the index of due rows.
func (r *Relay) sweepOnce(ctx context.Context, channel string, state int, before int64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	var ids []int64
	err := r.read.WithContext(ctx).Model(&notify.Row{}).
		Where("state = ? AND channel = ? AND next_at < ?", state, channel, before).
		Order("next_at").Limit(sweepChunk).Pluck("id", &ids).Error
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return len(ids), deleteDone(r.write.WithContext(ctx), state, ids)
}

func deleteDone(db *gorm.DB, state int, ids []int64) error {
	return notify.WhereIDs(db, ids).Where("state = ?", state).Delete(&notify.Row{}).Error
}

// runGauge counts the pending and the dead rows until ctx ends.
func (r *Relay) runGauge(ctx context.Context) {
	for ctx.Err() == nil {
		began := r.clock()
		if pending, dead, err := r.count(ctx); err == nil {
			for _, l := range r.loops {
				r.showPause(ctx, l.channel)
				r.metrics.pending.WithLabelValues(l.channel.Name()).Set(float64(pending[l.channel.Name()]))
				r.metrics.dead.WithLabelValues(l.channel.Name()).Set(float64(dead[l.channel.Name()]))
			}
			r.showOff(ctx, pending)
		} else if ctx.Err() == nil {
			r.log.DebugContext(ctx, "notify: rows not counted", "error", err)
		}
		idle(ctx, nil, max(gaugePeriod, gaugeShare*r.clock().Sub(began)))
	}
}

// showPause sets the metric of a channel's pause.
func (r *Relay) showPause(ctx context.Context, ch notify.Channel) {
	p, ok := ch.(notify.Pausing)
	if !ok {
		return
	}
	err := apart.Try(func() error {
		r.metrics.pause.WithLabelValues(ch.Name()).Set(p.Pause().Seconds())
		return nil
	})
	if err != nil {
		r.log.ErrorContext(ctx, "notify: channel panicked", "channel", ch.Name(), "error", err)
	}
}

// count counts the pending and the dead rows by channel.
func (r *Relay) count(ctx context.Context) (pending, dead map[string]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	if pending, err = countState(ctx, r.read, notify.StatePending); err != nil {
		return nil, nil, err
	}
	dead, err = countState(ctx, r.read, notify.StateDead)
	return pending, dead, err
}

// countState counts the rows in a state by channel. A channel without any is absent.
func countState(ctx context.Context, read *gorm.DB, state int) (map[string]int64, error) {
	var counts []struct {
		Channel string
		Held    int64
	}
	err := read.WithContext(ctx).Model(&notify.Row{}).Where("state = ?", state).
		Select("channel, COUNT(*) AS held").Group("channel").Scan(&counts).Error
	if err != nil {
		return nil, fmt.Errorf("count notifications: %w", err)
	}
	byChannel := make(map[string]int64, len(counts))
	for _, c := range counts {
		byChannel[c.Channel] = c.Held
	}
	return byChannel, nil
}
