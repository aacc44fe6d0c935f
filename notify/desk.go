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

// Errors of the desk.
var (
	ErrNoNotification = errors.New("there is no such notification")
	ErrNotDead        = errors.New("the notification is not dead: it is delivered or will still be tried")
	ErrBadCursor      = errors.New("the cursor is not one of this list's")
)

// Desk is where operators look after the outbox. Safe for concurrent use.
type Desk struct {
	write, read *gorm.DB
	now         func() time.Time
	wake        func()
}

// NewDesk returns a desk; wake is called when rows became due again.
func NewDesk(write, read *gorm.DB, now func() time.Time, wake func()) *Desk {
	return &Desk{write: write, read: read, now: now, wake: wake}
}

// place is where a list goes on: the key of its last row in the order of the index of due rows.
type place struct {
	Channel string `json:"c"`
	NextAt  int64  `json:"n"`
	ID      int64  `json:"i"`
}

// List returns up to limit rows of a state, by channel and newest first, of one channel or, if it is empty, of all. An empty
// cursor is the first page; the next page's is "" on the last. It returns ErrBadCursor for a cursor it did not make.
func (d *Desk) List(ctx context.Context, state int, channel, cursor string, limit int) ([]Row, string, error) {
	query := d.read.WithContext(ctx).Where("state = ?", state)
	if channel != "" {
		query = query.Where("channel = ?", channel)
	}
	if cursor != "" {
		var at place
		raw, err := base64.RawURLEncoding.DecodeString(cursor)
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
	next, err := json.Marshal(place{last.Channel, last.NextAt, last.ID})
	return rows[:limit], base64.RawURLEncoding.EncodeToString(next), err
}

// Note writes down, in the same transaction, that n dead notifications are due again; rows are they as they were, those up to noteMost.
type Note func(tx *gorm.DB, rows []Row, n int64) error

// noteMost bounds how many rows a Note is told of: what a reader looks at, and what one field of a log holds.
const noteMost = 50

// Retry makes one dead notification due now, with all its attempts before it again, and notes it. It returns ErrNoNotification or
// ErrNotDead.
func (d *Desk) Retry(ctx context.Context, orderID, event, channel string, note Note) error {
	var row Row
	err := d.write.WithContext(ctx).Where("order_id = ? AND event = ? AND channel = ?", orderID, event, channel).Take(&row).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return ErrNoNotification
	case err != nil:
		return fmt.Errorf("look up a notification of order %s: %w", orderID, err)
	}
	n, err := d.revive(ctx, channel, []int64{row.ID}, note)
	if err == nil && n == 0 {
		return ErrNotDead
	}
	return err
}

const (
	reviveChunk = 500
	reviveMost  = 10_000
)

// RetryAll is Retry for every dead notification of a channel, the oldest 10,000 at most; more says that some are left. Up to 500 at a
// time, each time noted in the same transaction.
func (d *Desk) RetryAll(ctx context.Context, channel string, note Note) (revived int64, more bool, err error) {
	for revived < reviveMost {
		var ids []int64
		err := d.read.WithContext(ctx).Model(&Row{}).Where("state = ? AND channel = ?", StateDead, channel).
			Order("next_at").Limit(reviveChunk).Pluck("id", &ids).Error
		if err != nil {
			return revived, true, fmt.Errorf("list dead notifications of channel %s: %w", channel, err)
		}
		n, err := d.revive(ctx, channel, ids, note)
		if revived += n; err != nil {
			return revived, true, err
		}
		if len(ids) < reviveChunk {
			return revived, false, nil
		}
	}
	return revived, true, nil
}

func (d *Desk) revive(ctx context.Context, channel string, ids []int64, note Note) (n int64, err error) {
	err = d.write.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var were []Row
		if err := among(tx, ids).Where("state = ?", StateDead).Order("order_id").Limit(noteMost).Find(&were).Error; err != nil || len(were) == 0 {
			return err
		}
		changed := among(tx, ids).Where("state = ?", StateDead).
			Updates(map[string]any{"state": StatePending, "attempts": 0, "next_at": d.now().UnixMilli()})
		n = changed.RowsAffected
		if changed.Error != nil || n == 0 || note == nil {
			return changed.Error
		}
		return note(tx, were, n)
	})
	if err != nil {
		return 0, fmt.Errorf("retry notifications of channel %s: %w", channel, err)
	}
	if n > 0 {
		d.wake()
	}
	return n, nil
}
