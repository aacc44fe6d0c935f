package relay

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"sluice/notify"
	"sluice/store"
)

// batch is rows of one channel under one lease.
type batch struct {
	channel string
	token   int64
	rows    []notify.Row // Attempts counts the delivery about to begin
	ended   int          // rows that were found and ended instead: out of attempts, or too old
}

const lastAttemptLost = "the last attempt began but its result was never stored"

// lease takes due rows, at most a batch of the channel. It counts the attempt before the delivery. So a row that kills
// its relay each time runs out of attempts, too.
func (r *Relay) lease(ctx context.Context, l *channelLoop) (batch, error) {
	// A stop in the middle of the commit would leave rows leased to nobody, so only its time bounds it.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	channel, at := l.channel.Name(), l.nextScan(r.clock())
	now := at.began.UnixMilli()
	if due, err := r.anyDue(ctx, l, at, now); err != nil || !due {
		return batch{}, err
	}
	var b batch
	var order sequence
	var found, spent []notify.Row
	var old []int64
	err := r.write.WithContext(work).Transaction(func(tx *gorm.DB) error {
		b = batch{channel: channel, token: rand.Int64N(1<<62) + 1} // #nosec G404 -- two must differ
		var err error
		if found, err = lockDue(tx, channel, at, l.limit); err != nil {
			return err
		}
		if order, err = sequenceRows(tx, l, found, now); err != nil {
			return err
		}
		var fresh []notify.Row
		fresh, old = r.separateOld(order.ready, now)
		if _, err = endOld(tx, old, now); err != nil {
			return err
		}
		b.rows, spent = r.separateSpent(fresh)
		b.ended = len(old) + len(spent)
		// The lease begins here: a slow scan must not use it up.
		return b.writeLease(tx, spent, now, r.clock().Add(r.cfg.Lease).UnixMilli())
	})
	if err != nil {
		return batch{}, fmt.Errorf("lease notifications of channel %s: %w", channel, err)
	}
	l.scanned(at, r.clock(), found)
	for _, row := range order.again {
		l.rewind(row)
	}
	if len(old) > 0 {
		r.reportOld(ctx, channel, int64(len(old)))
		r.onDead(channel, int64(len(old)))
	}
	if dead := len(spent); dead > 0 {
		r.metrics.finished.WithLabelValues(channel, countDead).Add(float64(dead))
		r.reportDead(ctx, channel, int64(dead))
	}
	return b, nil
}

// anyDue reports whether the channel has due rows. It uses the read handle, because an idle poll must not take SQLite's
// only write lock. For a channel with a backlog it returns true without a query.
func (r *Relay) anyDue(ctx context.Context, l *channelLoop, at scan, now int64) (bool, error) {
	if l.more {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	channel, read := l.channel.Name(), r.read.WithContext(ctx)
	for _, rows := range []*gorm.DB{postponedRows(read, channel, now), queuedRows(read, channel, at.after, now)} {
		var ids []int64
		if err := rows.Limit(1).Pluck("id", &ids).Error; err != nil {
			return false, fmt.Errorf("look for due notifications of channel %s: %w", channel, err)
		}
		if len(ids) > 0 {
			return true, nil
		}
	}
	l.scanned(at, r.clock(), nil)
	return false, nil
}

// postponedRows selects the rows that had to wait, such as for a retry, and are due now.
func postponedRows(db *gorm.DB, channel string, now int64) *gorm.DB {
	return unleased(db, channel, now).Where("next_at > 0 AND next_at <= ?", now).Order("next_at, id")
}

// queuedRows selects the rows with a higher ID than after that were never postponed.
func queuedRows(db *gorm.DB, channel string, after, now int64) *gorm.DB {
	rows := unleased(db, channel, now)
	if db.Name() == store.Postgres { // makes it use the index, as FORCE INDEX does on MySQL
		return rows.Where("next_at <= 0 AND (next_at, id) > (0, ?)", after).Order("next_at, id")
	}
	return rows.Where("next_at = 0 AND id > ?", after).Order("id")
}

// unleased selects the pending rows of a channel that no relay has leased. It names the index for MySQL, which may
// misjudge the number of rows and walk over all of them.
func unleased(db *gorm.DB, channel string, now int64) *gorm.DB {
	rows := db.Model(&notify.Row{})
	if db.Name() == store.MySQL {
		rows = rows.Table("outbox FORCE INDEX (outbox_due)")
	}
	return rows.Where("state = ? AND channel = ? AND leased_until <= ?", notify.StatePending, channel, now)
}

// lockDue locks the rows that are due longest, without those that another relay has locked. Postponed rows come first,
// but take at most half of the lease if others are queued. So a receiver that refuses many messages does not keep the
// channel from the rest.
func lockDue(tx *gorm.DB, channel string, at scan, limit int) ([]notify.Row, error) {
	now := at.began.UnixMilli()
	found, err := lockFirst(postponedRows(tx, channel, now), now, limit)
	if err != nil {
		return nil, err
	}
	room := limit - min(len(found), (limit+1)/2)
	more, err := lockFirst(queuedRows(tx, channel, at.after, now), now, room)
	if err != nil {
		return nil, err
	}
	return append(found[:min(len(found), limit-len(more))], more...), nil
}

// lockFirst locks the first limit rows. On MySQL a locking scan also locks the row at which it ends. That row may be
// another channel's, whose loop would then skip it. So there the scan takes no locks, and its rows are locked by key.
func lockFirst(rows *gorm.DB, now int64, limit int) (found []notify.Row, err error) {
	skipping := clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}
	if rows.Name() != store.MySQL {
		err = rows.Clauses(skipping).Limit(limit).Find(&found).Error
		return found, err
	}
	var ids []int64
	tx := rows.Session(&gorm.Session{NewDB: true})
	if err := rows.Limit(limit).Pluck("id", &ids).Error; err != nil || len(ids) == 0 {
		return nil, err
	}
	err = tx.Table("outbox FORCE INDEX (PRIMARY)").Clauses(skipping).
		Where("id IN ? AND state = ? AND leased_until <= ? AND next_at <= ?", ids, notify.StatePending, now, now).
		Find(&found).Error
	slices.SortFunc(found, func(a, b notify.Row) int {
		return cmp.Or(cmp.Compare(a.NextAt, b.NextAt), cmp.Compare(a.ID, b.ID))
	})
	return found, err
}

// separateSpent separates rows that are out of attempts and counts one more attempt of the others.
func (r *Relay) separateSpent(found []notify.Row) (taken, spent []notify.Row) {
	for _, row := range found {
		if row.Attempts > r.cfg.Retries {
			spent = append(spent, row)
			continue
		}
		row.Attempts++
		taken = append(taken, row)
	}
	return taken, spent
}

// separateOld separates the rows that are too old to be sent.
func (r *Relay) separateOld(found []notify.Row, now int64) (fresh []notify.Row, old []int64) {
	oldest := r.oldest(now)
	for _, row := range found {
		if bornAt(row) < oldest {
			old = append(old, row.ID)
			continue
		}
		fresh = append(fresh, row)
	}
	return fresh, old
}

// writeLease writes the lease into the locked rows; spent rows, which are out of attempts, become dead instead.
func (b batch) writeLease(tx *gorm.DB, spent []notify.Row, now, until int64) error {
	if len(b.rows) > 0 {
		// No indexed column changes and no row grows, so the rows change in place.
		set := map[string]any{"lease": b.token, "leased_until": until, "attempts": gorm.Expr("attempts + 1")}
		if err := notify.WhereIDs(tx, notify.IDs(b.rows)).Updates(set).Error; err != nil {
			return err
		}
	}
	if len(spent) == 0 {
		return nil
	}
	set := map[string]any{"state": notify.StateDead, "lease": 0, "leased_until": 0, "next_at": now,
		"last_error": lastAttemptLost}
	return notify.WhereIDs(tx, notify.IDs(spent)).Updates(set).Error
}
