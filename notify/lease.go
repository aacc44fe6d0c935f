package notify

import (
	"context"
	"crypto/rand"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// batch is rows of one channel under one lease.
type batch struct {
	channel string
	token   string
	rows    []Row // Attempts counts the delivery about to begin
}

const lastAttemptLost = "the last attempt began but its result was never stored"

// lease takes up to Config.Batch due rows. The attempt is counted here, before the delivery, so that a row which kills its relay
// each time runs out of attempts like any other.
func (r *Relay) lease(ctx context.Context, channel string) (batch, error) {
	// A stop in the middle of the commit would leave rows leased to nobody, so only its time bounds it.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
	defer cancel()
	now := r.clock().UnixMilli()
	due, err := r.anyDue(ctx, channel, now)
	if err != nil || !due {
		return batch{}, err
	}
	var b batch
	var spent int64
	err = r.write.WithContext(work).Transaction(func(tx *gorm.DB) error {
		b = batch{channel: channel, token: rand.Text()}
		rows, err := r.lockDue(tx, channel, now)
		if err != nil {
			return err
		}
		b.rows, spent, err = r.take(tx, &b, rows, now)
		return err
	})
	if err != nil {
		return batch{}, fmt.Errorf("lease notifications of channel %s: %w", channel, err)
	}
	if spent > 0 {
		r.metrics.finished.WithLabelValues(channel, countDead).Add(float64(spent))
		r.gaveUp(ctx, channel, spent)
	}
	return b, nil
}

// anyDue asks the read handle first: an idle poll must not take SQLite's only write lock.
func (r *Relay) anyDue(ctx context.Context, channel string, now int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, dbTimeout)
	defer cancel()
	var ids []string
	err := r.read.WithContext(ctx).Model(&Row{}).Where("state = ? AND channel = ? AND next_at <= ?", StatePending, channel, now).
		Limit(1).Pluck("order_id", &ids).Error
	if err != nil {
		return false, fmt.Errorf("look for due notifications of channel %s: %w", channel, err)
	}
	return len(ids) > 0, nil
}

// lockDue reads the rows due longest, passing over those another relay is just taking.
func (r *Relay) lockDue(tx *gorm.DB, channel string, now int64) ([]Row, error) {
	var rows []Row
	err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}).
		Where("state = ? AND channel = ? AND next_at <= ?", StatePending, channel, now).
		Order("next_at").Limit(r.cfg.Batch).Find(&rows).Error
	return rows, err
}

// take writes the lease into the locked rows and returns those to deliver; rows out of attempts die instead, and are counted.
func (r *Relay) take(tx *gorm.DB, b *batch, rows []Row, now int64) (taken []Row, dead int64, err error) {
	leased, spent := make(map[string][]string), make(map[string][]string)
	for _, row := range rows {
		if row.Attempts > r.cfg.Retries {
			spent[row.Event] = append(spent[row.Event], row.OrderID)
			dead++
			continue
		}
		leased[row.Event] = append(leased[row.Event], row.OrderID)
		row.Attempts++
		taken = append(taken, row)
	}
	until := now + r.cfg.Lease.Milliseconds()
	for event, orders := range leased {
		set := map[string]any{"lease": b.token, "next_at": until, "attempts": gorm.Expr("attempts + 1")}
		if err := rowsOf(tx, b.channel, event, orders).Updates(set).Error; err != nil {
			return nil, 0, err
		}
	}
	for event, orders := range spent {
		set := map[string]any{"state": StateDead, "lease": "", "next_at": now, "last_error": lastAttemptLost}
		if err := rowsOf(tx, b.channel, event, orders).Updates(set).Error; err != nil {
			return nil, 0, err
		}
	}
	return taken, dead, nil
}

// rowsOf names rows by their whole key, the way every dialect's primary key can find them.
func rowsOf(tx *gorm.DB, channel, event string, orders []string) *gorm.DB {
	return tx.Model(&Row{}).Where("order_id IN ? AND event = ? AND channel = ?", orders, event, channel)
}
