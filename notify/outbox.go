package notify

import (
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// The states of a row.
const (
	StatePending   = 0
	StateDelivered = 1
	StateDead      = 2
	StateOvertaken = 3 // not sent: what it says was no longer true
)

// insertChunk keeps one INSERT within every dialect's bound on parameters.
const insertChunk = 500

// Row is one event of one order for one channel. The three together are never queued twice. Times are unix
// milliseconds.
type Row struct {
	// ID grows as rows are queued: it is the order in which they are delivered and stored. The database gives it.
	ID      int64 `gorm:"->;primaryKey;autoIncrement:false"`
	OrderID string
	Event   string
	Channel string
	SaleID  string
	UserID  string
	State   int
	// Attempts counts deliveries begun.
	Attempts int
	// NextAt is when a pending row is due, 0 for at once. For other rows it is when they were delivered, overtaken or
	// given up.
	NextAt int64
	// Lease is the token of the relay that has the row until LeasedUntil.
	Lease       int64
	LeasedUntil int64
	LastError   string
	CreatedAt   int64 `gorm:"autoCreateTime:false"`
	DeliveredAt int64 // or overtaken
	// DeliveredBy is the instance that ended the last delivery, with success or not; 0: none or unknown.
	DeliveredBy int64 `gorm:"column:told_by"`
}

// TableName returns the table of the migrations.
func (Row) TableName() string { return "outbox" }

// Due returns from when a pending row may be delivered, unix ms.
func (r Row) Due() int64 { return max(r.NextAt, r.CreatedAt) }

// Insert queues rows within tx, which must be the transaction of the change that they report. They exist if and only if
// it commits. A row whose order, event and channel are already there is ignored, delivered or not. Callers set these
// three, SaleID, UserID and CreatedAt. They may set NextAt for a later delivery.
func Insert(tx *gorm.DB, rows []Row) error {
	for chunk := range slices.Chunk(rows, insertChunk) {
		if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&chunk).Error; err != nil {
			return fmt.Errorf("queue %d notifications: %w", len(chunk), err)
		}
	}
	return nil
}

// runLength is how many consecutive ids become one range in WhereIDs.
const runLength = 16

// WhereIDs selects rows by their ids. Rows queued together have consecutive ids, so most ids form a few ranges. A
// condition of ranges is faster to parse than one of thousands of numbers.
func WhereIDs(tx *gorm.DB, ids []int64) *gorm.DB {
	ids = slices.Sorted(slices.Values(ids))
	var single []int64
	var terms []string
	var args []any
	for from := 0; from < len(ids); {
		to := from + 1
		for to < len(ids) && ids[to] == ids[to-1]+1 {
			to++
		}
		if to-from < runLength {
			single = append(single, ids[from:to]...)
		} else {
			terms, args = append(terms, "id BETWEEN ? AND ?"), append(args, ids[from], ids[to-1])
		}
		from = to
	}
	if len(single) > 0 || len(ids) == 0 {
		terms, args = append(terms, "id IN ?"), append(args, single)
	}
	return tx.Model(&Row{}).Where("("+strings.Join(terms, " OR ")+")", args...)
}

// IDs returns the ids of rows.
func IDs(rows []Row) []int64 {
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}
