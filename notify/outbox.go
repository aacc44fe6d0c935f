package notify

import (
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// The states of a row.
const (
	StatePending   = 0
	StateDelivered = 1
	StateDead      = 2
	StateOvertaken = 3 // not told: what it says was no longer true
)

// insertChunk keeps one INSERT within every dialect's bound on parameters.
const insertChunk = 500

// Row is one event of one order for one channel. The three together are never queued twice. ID grows as rows are queued: it is
// the order in which they are told, and where they lie. Times are unix milliseconds. NextAt is when a row is due, 0 as soon as its
// turn comes; once delivered or overtaken, when it was; once dead, since when. Until LeasedUntil it belongs to the relay that has written Lease.
// ToldBy is the number of the process that ended the last delivery, well or not; 0: none has, or it is not known.
// Attempts counts deliveries begun.
type Row struct {
	ID          int64 `gorm:"->;primaryKey;autoIncrement:false"` // the database gives it
	OrderID     string
	Event       string
	Channel     string
	SaleID      string
	UserID      string
	State       int
	Attempts    int
	NextAt      int64
	Lease       int64
	LeasedUntil int64
	LastError   string
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	DeliveredAt int64 // or when it was overtaken
	ToldBy      int64
}

// TableName is the table of the migrations.
func (Row) TableName() string { return "outbox" }

// Due is from when a pending row may be delivered, unix ms.
func (r Row) Due() int64 { return max(r.NextAt, r.CreatedAt) }

// Insert queues rows within tx, which must be the transaction of what they tell about: they exist if and only if it commits.
// A row whose order, event and channel are already there is ignored, delivered or not. Callers set these three, SaleID, UserID,
// CreatedAt and, to be delivered later than at once, NextAt.
func Insert(tx *gorm.DB, rows []Row) error {
	for chunk := range slices.Chunk(rows, insertChunk) {
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
