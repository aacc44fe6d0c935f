package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// Errors of Admin.
var (
	ErrNoNotification = errors.New("there is no such notification")
	ErrNotDead        = errors.New("the notification is not dead: it is delivered or will still be tried")
	ErrBadCursor      = errors.New("the cursor is not one of this list's")
)

// Admin lists and retries the rows of the outbox, for operators. Safe for concurrent use.
type Admin struct {
	write, read *gorm.DB
	now         func() time.Time
	wake        func()
}

// NewAdmin returns an Admin that calls wake whenever rows became due again.
func NewAdmin(write, read *gorm.DB, now func() time.Time, wake func()) *Admin {
	return &Admin{write: write, read: read, now: now, wake: wake}
}

// cursor is where the next page begins: behind the key of the last row, in the order of the index.
type cursor struct {
	Channel string `json:"c"`
	NextAt  int64  `json:"n"`
	ID      int64  `json:"i"`
}

// List returns up to limit rows of a state, by channel and newest first. An empty channel means all channels. The page
// begins behind the cursor after, "" for the first page. List also returns the cursor of the next page, "" on the last.
// It returns ErrBadCursor for a cursor that it did not make.
func (a *Admin) List(ctx context.Context, state int, channel, after string, limit int) ([]Row, string, error) {
	query := a.read.WithContext(ctx).Where("state = ?", state)
	if channel != "" {
		query = query.Where("channel = ?", channel)
	}
	if after != "" {
		var at cursor
		raw, err := base64.RawURLEncoding.DecodeString(after)
		if err != nil || json.Unmarshal(raw, &at) != nil {
			return nil, "", ErrBadCursor
		}
		query = query.Where("(channel, next_at, id) < (?, ?, ?)", at.Channel, at.NextAt, at.ID)
	}
	var rows []Row
	err := query.Order("channel DESC, next_at DESC, id DESC").Limit(limit + 1).Find(&rows).Error
	if err != nil {
		return nil, "", fmt.Errorf("list notifications: %w", err)
	}
	if len(rows) <= limit {
		return rows, "", nil
	}
	last := rows[limit-1]
	next, err := json.Marshal(cursor{last.Channel, last.NextAt, last.ID})
	return rows[:limit], base64.RawURLEncoding.EncodeToString(next), err
}

// LogChange logs, in the same transaction, that n dead notifications are due again. It gets the rows as they were
// before, at most loggedRows of them.
type LogChange func(tx *gorm.DB, rows []Row, n int64) error

// loggedRows bounds how many rows a LogChange gets, so that they fit one field of a log.
const loggedRows = 50

// Retry makes one dead notification due now, with no attempt counted, and logs that. It returns ErrNoNotification or
// ErrNotDead.
func (a *Admin) Retry(ctx context.Context, orderID, event, channel string, log LogChange) error {
	var row Row
	err := a.write.WithContext(ctx).
		Where("order_id = ? AND event = ? AND channel = ?", orderID, event, channel).Take(&row).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return ErrNoNotification
	case err != nil:
		return fmt.Errorf("look up a notification of order %s: %w", orderID, err)
	}
	n, err := a.requeue(ctx, channel, []int64{row.ID}, log)
	if err == nil && n == 0 {
		return ErrNotDead
	}
	return err
}

const (
	requeueChunk = 500
	requeueLimit = 10_000
)

// RetryAll retries every dead notification of a channel, the oldest 10,000 at most. more says that some may be left.
// Each transaction takes up to 500 and logs them.
func (a *Admin) RetryAll(ctx context.Context, channel string, log LogChange) (requeued int64, more bool, err error) {
	for requeued < requeueLimit {
		var ids []int64
		err := a.read.WithContext(ctx).Model(&Row{}).Where("state = ? AND channel = ?", StateDead, channel).
			Order("next_at").Limit(requeueChunk).Pluck("id", &ids).Error
		if err != nil {
			return requeued, true, fmt.Errorf("list dead notifications of channel %s: %w", channel, err)
		}
		n, err := a.requeue(ctx, channel, ids, log)
		if requeued += n; err != nil {
			return requeued, true, err
		}
		if len(ids) < requeueChunk {
			return requeued, false, nil
		}
	}
	return requeued, true, nil
}

// requeue makes the dead ones of the rows due now and returns how many there were.
func (a *Admin) requeue(ctx context.Context, channel string, ids []int64, log LogChange) (n int64, err error) {
	err = a.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var before []Row
		err := WhereIDs(tx, ids).Where("state = ?", StateDead).Order("order_id").Limit(loggedRows).Find(&before).Error
		if err != nil || len(before) == 0 {
			return err
		}
		now := a.now().UnixMilli()
		changed := WhereIDs(tx, ids).Where("state = ?", StateDead).
			Updates(map[string]any{"state": StatePending, "attempts": 0, "next_at": now, "delivered_at": now})
		n = changed.RowsAffected
		if changed.Error != nil || n == 0 || log == nil {
			return changed.Error
		}
		return log(tx, before, n)
	})
	if err != nil {
		return 0, fmt.Errorf("retry notifications of channel %s: %w", channel, err)
	}
	if n > 0 {
		a.wake()
	}
	return n, nil
}
