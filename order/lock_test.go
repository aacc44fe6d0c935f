package order_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/notify"
	"sluice/queue"
	"sluice/store"
)

// waiting counts the transactions of this database that wait for a lock. MariaDB looks anew
// only when nobody on the server has asked for 100 ms, so two who ask must not ask more often than each 200 ms.
var waiting = map[string]string{
	store.MySQL: `SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p
		ON p.id = t.trx_mysql_thread_id
		WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()`,
	store.Postgres: `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type ` +
		`= 'Lock'`,
}

// Every batch of a sale needs its stock row, so a transaction locks it last: while one still writes orders and news,
// others commit. SQLite has one writer and no locks of rows.
func TestStockIsLockedLast(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(ctx context.Context, w *orders.World, b queue.Batch) error{
		"batch": func(ctx context.Context, w *orders.World, b queue.Batch) error {
			_, err := w.Fulfiller.Handle(ctx, b)
			return err
		},
		"multi-sale batch": func(ctx context.Context, w *orders.World, b queue.Batch) error {
			_, err := w.Fulfiller.HandleMultiSale(ctx, []queue.Batch{b})
			return err
		},
	} {
		for _, d := range tables.Databases(t) {
			if count, rows := waiting[d.Driver]; rows {
				t.Run(name+" on "+d.Driver, func(t *testing.T) {
					t.Parallel()
					w := orders.New(t, d, testkit.Embedded(t).Addr(), 100, 1)
					w.AdmitMany(3)
					b := w.Claim(3)
					othersCommitWhile(w, count, b, func() error { return handle(w.Ctx, w, b) })
				})
			}
		}
	}
}

// othersCommitWhile lets a batch wait for its last row of news, and takes the stock row meanwhile.
func othersCommitWhile(w *orders.World, count string, b queue.Batch, handle func() error) {
	w.T.Helper()
	last := b.Tickets[len(b.Tickets)-1]
	hold := w.DB.Write.WithContext(w.Ctx).Begin()
	require.NoError(w.T, hold.Error)
	require.NoError(w.T, notify.Insert(hold, []notify.Row{{OrderID: last.ID, Event: notify.EventConfirmed,
		Channel: orders.Channels()[1], SaleID: orders.Sale, UserID: last.User}}))
	done := make(chan error, 1)
	go func() { done <- handle() }()
	require.Eventually(w.T, func() bool {
		var n int
		return w.DB.Read.Raw(count).Scan(&n).Error == nil && n > 0
	}, orders.Soon, 250*time.Millisecond, "nothing waits for the news")

	// Shorter than the batch waits for the news, after which it would let the stock row go.
	ctx, cancel := context.WithTimeout(w.Ctx, 2*time.Second)
	defer cancel()
	const take = "UPDATE stock SET available = available WHERE sale_id = ?"
	taken := w.DB.Write.WithContext(ctx).Exec(take, orders.Sale).Error
	require.NoError(w.T, hold.Rollback().Error)
	handled := <-done
	require.NoError(w.T, taken, "the stock row was locked by a batch that still wrote")
	require.NoError(w.T, handled)
	require.EqualValues(w.T, 97, w.Available())
}
