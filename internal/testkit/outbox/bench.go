// Package outbox is what surrounds the outbox in tests: a database, a stopped clock and channels.
package outbox

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/store"
)

// Patience is how long a test waits for something that must happen.
const Patience = 30 * time.Second

// Bench is a migrated database, a stopped clock and everything else that a relay needs.
type Bench struct {
	DB     *store.DB
	Config notify.Config
	Clock  *testkit.Clock
	Log    *slog.Logger
}

// OnEveryDatabase runs the test on every database, each with a new bench.
func OnEveryDatabase(t *testing.T, test func(t *testing.T, b *Bench)) {
	t.Helper()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) { test(t, On(t, d)) })
	}
}

// New returns a bench on SQLite, for tests that do not depend on the database.
func New(t *testing.T) *Bench {
	t.Helper()
	return On(t, tables.New(t, "sqlite"))
}

// On returns a bench on a database.
func On(t *testing.T, d testkit.Database) *Bench {
	t.Helper()
	b := &Bench{DB: tables.Open(t, d), Config: notify.DefaultConfig(),
		Clock: testkit.NewClock(time.UnixMilli(1_700_000_000_000)), Log: slog.New(slog.DiscardHandler)}
	b.Config.Poll, b.Config.Jitter = 5*time.Millisecond, 0
	return b
}

// Insert queues a confirmation for each of n orders, all at once.
func (b *Bench) Insert(t *testing.T, channel string, n int) {
	t.Helper()
	rows := make([]notify.Row, n)
	for i := range rows {
		rows[i] = b.row(channel, fmt.Sprintf("order-%04d", i), notify.EventConfirmed)
	}
	require.NoError(t, b.DB.Tx(t.Context(), func(tx *gorm.DB) error { return notify.Insert(tx, rows) }))
}

// Queue queues events of one order, one after the other.
func (b *Bench) Queue(t *testing.T, channel, order string, events ...string) {
	t.Helper()
	for _, event := range events {
		rows := []notify.Row{b.row(channel, order, event)}
		require.NoError(t, b.DB.Tx(t.Context(), func(tx *gorm.DB) error { return notify.Insert(tx, rows) }))
	}
}

// QueueOrders queues a confirmation of each order, one after the other.
func (b *Bench) QueueOrders(t *testing.T, channel string, orders ...string) {
	t.Helper()
	for _, order := range orders {
		b.Queue(t, channel, order, notify.EventConfirmed)
	}
}

func (b *Bench) row(channel, order, event string) notify.Row {
	return notify.Row{OrderID: order, Event: event, Channel: channel, SaleID: "s1", UserID: "u1",
		CreatedAt: b.Clock.Now().UnixMilli()}
}

// Rows returns the rows in a state, by their orders.
func (b *Bench) Rows(t *testing.T, state int) []notify.Row {
	t.Helper()
	var rows []notify.Row
	require.NoError(t, b.DB.Read.Where("state = ?", state).Order("order_id").Find(&rows).Error)
	return rows
}

// WaitFor waits until n rows are in a state, and returns them.
func (b *Bench) WaitFor(t *testing.T, state, n int) []notify.Row {
	t.Helper()
	require.Eventually(t, func() bool { return len(b.Rows(t, state)) == n }, Patience, 2*time.Millisecond)
	return b.Rows(t, state)
}

// Span returns the ids from first to last.
func Span(first, last int64) []int64 {
	var ids []int64
	for id := first; id <= last; id++ {
		ids = append(ids, id)
	}
	return ids
}
