package notify

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// The states of a row.
const (
	StatePending   = 0
	StateDelivered = 1
	StateDead      = 2
)

// insertChunk keeps one INSERT within every dialect's bound on parameters.
const insertChunk = 500

// Row is one event of one order for one channel. The three together are its key, so the same news is never queued twice.
// Times are unix milliseconds. NextAt is when it is due; while Lease is set, when that lease ends; once delivered, when it was.
// Attempts counts deliveries begun.
type Row struct {
	OrderID     string `gorm:"primaryKey;size:36"`
	Event       string `gorm:"primaryKey;size:32"`
	Channel     string `gorm:"primaryKey;size:16"`
	SaleID      string
	UserID      string
	State       int
	Attempts    int
	NextAt      int64
	Lease       string
	LastError   string
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	DeliveredAt int64
}

// TableName is the table of the migrations.
func (Row) TableName() string { return "outbox" }

// Insert queues rows within tx, which must be the transaction of what they tell about: they exist if and only if it commits.
// A row whose key is already there is ignored, delivered or not. Callers set the key, SaleID, UserID, CreatedAt and, to be
// delivered later than at once, NextAt; a zero NextAt means CreatedAt.
func Insert(tx *gorm.DB, rows []Row) error {
	for start := 0; start < len(rows); start += insertChunk {
		chunk := make([]Row, 0, insertChunk)
		for _, row := range rows[start:min(start+insertChunk, len(rows))] {
			if row.NextAt == 0 {
				row.NextAt = row.CreatedAt
			}
			chunk = append(chunk, row)
		}
		if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&chunk).Error; err != nil {
			return fmt.Errorf("queue %d notifications: %w", len(chunk), err)
		}
	}
	return nil
}

// Pending counts the rows not yet delivered nor dead, by channel. A channel without any is absent.
func Pending(ctx context.Context, read *gorm.DB) (map[string]int64, error) {
	return countState(ctx, read, StatePending)
}

func countState(ctx context.Context, read *gorm.DB, state int) (map[string]int64, error) {
	var counts []struct {
		Channel string
		Held    int64
	}
	err := read.WithContext(ctx).Model(&Row{}).Where("state = ?", state).
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
