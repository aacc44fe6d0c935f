package relay

import (
	"context"
	"fmt"
	"time"

	"sluice/notify"

	"gorm.io/gorm"
)

const tooOld = "not sent: older than notify.max_age"

// bornAt returns from when a pending row's age counts, unix ms. It was queued then, or an operator retried it.
func bornAt(r notify.Row) int64 { return max(r.CreatedAt, r.DeliveredAt) }

// oldest returns when the oldest rows that are still sent were queued, unix ms; 0: any age will do.
func (r *Relay) oldest(now int64) int64 {
	if r.cfg.MaxAge == 0 {
		return 0
	}
	return now - r.cfg.MaxAge.Milliseconds()
}

// endOld ends rows that nobody has, as too old, and returns how many it were.
func endOld(tx *gorm.DB, ids []int64, now int64) (int64, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	ended := notify.WhereIDs(tx, ids).Where("state = ? AND leased_until <= ?", notify.StatePending, now).
		Updates(map[string]any{"state": notify.StateOvertaken, "lease": 0, "leased_until": 0, "next_at": now,
			"delivered_at": now, "last_error": tooOld})
	return ended.RowsAffected, ended.Error
}

// sweepOff treats the rows of channels that this relay does not deliver to, because they are switched off. It deletes
// what has ended, as sweep does. It ends what is too old to be sent once such a channel is on again.
func (r *Relay) sweepOff(ctx context.Context) error {
	off, err := r.offChannels(ctx)
	if err != nil {
		return err
	}
	for _, channel := range off {
		if err := r.sweep(ctx, channel); err != nil {
			return err
		}
		if err := r.expireOff(ctx, channel); err != nil {
			return fmt.Errorf("end old notifications of channel %s: %w", channel, err)
		}
	}
	return nil
}

// offChannels lists the channels that have rows and are not delivered to. It hops from one to the next by the index,
// however many rows each has.
func (r *Relay) offChannels(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	seen := map[string]bool{}
	for _, l := range r.loops {
		seen[l.channel.Name()] = true
	}
	var off []string
	for _, state := range []int{notify.StatePending, notify.StateDelivered, notify.StateDead, notify.StateOvertaken} {
		for after := ""; ; {
			var next []string
			err := r.read.WithContext(ctx).Model(&notify.Row{}).Where("state = ? AND channel > ?", state, after).
				Order("channel").Limit(1).Pluck("channel", &next).Error
			if err != nil {
				return nil, fmt.Errorf("list the channels of notifications: %w", err)
			}
			if len(next) == 0 {
				break
			}
			if after = next[0]; !seen[after] {
				seen[after] = true
				off = append(off, after)
			}
		}
	}
	return off, nil
}

// expireOff ends what is too old of a channel that is off. It ends at most 10,000 rows that wait for their turn, and
// as many that wait for a retry.
func (r *Relay) expireOff(ctx context.Context, channel string) error {
	now := r.clock().UnixMilli()
	oldest := r.oldest(now)
	read := func() *gorm.DB { return unleased(r.read.WithContext(ctx), channel, now) }
	for _, rows := range []func() *gorm.DB{
		func() *gorm.DB { return read().Where("next_at = 0").Order("id") },
		func() *gorm.DB { return read().Where("next_at > 0 AND next_at < ?", oldest).Order("next_at, id") },
	} {
		for range sweepChunks {
			more, err := r.expireChunk(ctx, channel, rows, now)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// expireChunk ends the old ones among the first rows, which are the oldest. It reports whether there may be more.
func (r *Relay) expireChunk(ctx context.Context, channel string, rows func() *gorm.DB, now int64) (bool, error) {
	var found []notify.Row
	if err := rows().Select("id", "created_at", "delivered_at").Limit(sweepChunk).Find(&found).Error; err != nil {
		return false, err
	}
	var old []int64
	for _, row := range found {
		if bornAt(row) < r.oldest(now) {
			old = append(old, row.ID)
		}
	}
	ended, err := endOld(r.write.WithContext(ctx), old, now)
	if ended > 0 {
		r.reportOld(ctx, channel, ended)
	}
	return len(found) == sweepChunk && len(old) > 0, err
}

// reportOld counts and logs notifications that were not sent because of their age.
func (r *Relay) reportOld(ctx context.Context, channel string, n int64) {
	r.metrics.finished.WithLabelValues(channel, countExpired).Add(float64(n))
	r.log.WarnContext(ctx, "notify: notifications were too old and are not sent", "channel", channel, "count", n,
		"max_age", r.cfg.MaxAge)
}

// offAgain is how often the log repeats that notifications wait for a channel that is off.
const offAgain = time.Hour

// showOff sets the metric of rows that wait for channels that are off, and logs them now and then.
func (r *Relay) showOff(ctx context.Context, pending map[string]int64) {
	r.metrics.off.Reset()
	for _, l := range r.loops {
		delete(pending, l.channel.Name())
	}
	for channel, n := range pending {
		r.metrics.off.WithLabelValues(channel).Set(float64(n))
		if now := time.Now(); now.Sub(r.offLogged[channel]) >= offAgain {
			r.offLogged[channel] = now
			r.log.WarnContext(ctx, "notify: notifications wait for a channel that is off",
				"channel", channel, "count", n)
		}
	}
}
