package notify

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"sluice/store"
)

// batch is rows of one channel under one lease.
type batch struct {
	channel string
	token   int64
	rows    []Row // Attempts counts the delivery about to begin
}

const lastAttemptLost = "the last attempt began but its result was never stored"

// lease takes due rows, as many as the lane may hold. The attempt is counted here, before the delivery, so that a row which kills its
// relay each time runs out of attempts like any other.
func (r *Relay) lease(ctx context.Context, l *lane) (batch, error) {
	// A stop in the middle of the commit would leave rows leased to nobody, so only its time bounds it.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	channel, at := l.channel.Name(), l.look(r.clock())
	now := at.began.UnixMilli()
	if due, err := r.anyDue(ctx, l, at, now); err != nil || !due {
		return batch{}, err
	}
	var b batch
	var order inOrder
	var found, spent []Row
	err := r.write.WithContext(work).Transaction(func(tx *gorm.DB) error {
		b = batch{channel: channel, token: rand.Int64N(1<<62) + 1} // #nosec G404 -- two leases must differ, nobody guesses one
		var err error
		if found, err = lockDue(tx, channel, at.after, now, l.most); err != nil {
			return err
		}
		if order, err = putInOrder(tx, l, found, now); err != nil {
			return err
		}
		b.rows, spent = r.sort(order.free)
		return b.take(tx, spent, now, r.clock().Add(r.cfg.Lease).UnixMilli()) // from here on: a slow look must not use it up
	})
	if err != nil {
		return batch{}, fmt.Errorf("lease notifications of channel %s: %w", channel, err)
	}
	l.looked(at, r.clock(), found)
	for _, row := range order.again {
		l.back(row)
	}
	if dead := len(spent); dead > 0 {
		r.metrics.finished.WithLabelValues(channel, countDead).Add(float64(dead))
		r.gaveUp(ctx, channel, int64(dead))
	}
	return b, nil
}

// anyDue asks the read handle first: an idle poll must not take SQLite's only write lock. A lane with a backlog need not ask.
func (r *Relay) anyDue(ctx context.Context, l *lane, at look, now int64) (bool, error) {
	if l.full {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	for _, some := range []*gorm.DB{putOff(r.read.WithContext(ctx), l.channel.Name(), now), inTurn(r.read.WithContext(ctx), l.channel.Name(), at.after, now)} {
		var ids []int64
		if err := some.Limit(1).Pluck("id", &ids).Error; err != nil {
			return false, fmt.Errorf("look for due notifications of channel %s: %w", l.channel.Name(), err)
		}
		if len(ids) > 0 {
			return true, nil
		}
	}
	l.looked(at, r.clock(), nil)
	return false, nil
}

// putOff are the rows that were to wait, a retry for example, and have.
func putOff(db *gorm.DB, channel string, now int64) *gorm.DB {
	return pending(db, channel, now).Where("next_at > 0 AND next_at <= ?", now).Order("next_at, id")
}

// inTurn are the rows that nothing but their turn was waited for.
func inTurn(db *gorm.DB, channel string, after, now int64) *gorm.DB {
	rows := pending(db, channel, now)
	if db.Name() == store.Postgres {
		return rows.Where("next_at <= 0 AND (next_at, id) > (0, ?)", after).Order("next_at, id") // to the same end as FORCE INDEX
	}
	return rows.Where("next_at = 0 AND id > ?", after).Order("id")
}

// pending are the rows of a channel that no relay has. To a database that misjudges how many there are, walking over all rows in the
// order of their key looks cheaper than the index that holds these alone.
func pending(db *gorm.DB, channel string, now int64) *gorm.DB {
	rows := db.Model(&Row{})
	if db.Name() == store.MySQL {
		rows = rows.Table("outbox FORCE INDEX (outbox_due)")
	}
	return rows.Where("state = ? AND channel = ? AND leased_until <= ?", StatePending, channel, now)
}

// lockDue reads the rows due longest, passing over those another relay is just taking. Those put off come first, for they have waited
// before, but leave half of the lease to those in turn: a receiver that refuses many must not keep it from the others' news.
func lockDue(tx *gorm.DB, channel string, after, now int64, most int) ([]Row, error) {
	found, err := lockFirst(putOff(tx, channel, now), now, most)
	if err != nil {
		return nil, err
	}
	room := most - min(len(found), (most+1)/2)
	more, err := lockFirst(inTurn(tx, channel, after, now), now, room)
	if err != nil {
		return nil, err
	}
	return append(found[:min(len(found), most-len(more))], more...), nil
}

// lockFirst locks the first of the rows. On MySQL a look that locks also locks the row at which it ends, the first of the next
// channel, whose lane would pass over it: there the look takes no locks, and what it found is locked by its key.
func lockFirst(rows *gorm.DB, now int64, most int) (found []Row, err error) {
	skipping := clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}
	if rows.Name() != store.MySQL {
		err = rows.Clauses(skipping).Limit(most).Find(&found).Error
		return found, err
	}
	var ids []int64
	tx := rows.Session(&gorm.Session{NewDB: true})
	if err := rows.Limit(most).Pluck("id", &ids).Error; err != nil || len(ids) == 0 {
		return nil, err
	}
	err = tx.Table("outbox FORCE INDEX (PRIMARY)").Clauses(skipping).
		Where("id IN ? AND state = ? AND leased_until <= ? AND next_at <= ?", ids, StatePending, now, now).Find(&found).Error
	slices.SortFunc(found, func(a, b Row) int { return cmp.Or(cmp.Compare(a.NextAt, b.NextAt), cmp.Compare(a.ID, b.ID)) })
	return found, err
}

// sort tells rows to deliver from those out of attempts.
func (r *Relay) sort(found []Row) (taken, spent []Row) {
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

// take writes the lease into the locked rows; those out of attempts die instead.
func (b batch) take(tx *gorm.DB, spent []Row, now, until int64) error {
	if len(b.rows) > 0 {
		// Nothing here is part of an index, and all of it is as long as before: the rows change where they lie.
		set := map[string]any{"lease": b.token, "leased_until": until, "attempts": gorm.Expr("attempts + 1")}
		if err := among(tx, idsOfRows(b.rows)).Updates(set).Error; err != nil {
			return err
		}
	}
	if len(spent) == 0 {
		return nil
	}
	set := map[string]any{"state": StateDead, "lease": 0, "leased_until": 0, "next_at": now, "last_error": lastAttemptLost}
	return among(tx, idsOfRows(spent)).Updates(set).Error
}
