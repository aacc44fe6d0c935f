package schema_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

// migratedTo returns the schema of a database as an older version left it.
func migratedTo(t *testing.T, d testkit.Database, version int64) *schema.Schema {
	t.Helper()
	db := open(t, config(d))
	pool, err := db.Write.DB()
	require.NoError(t, err)
	dialect := map[string]goose.Dialect{store.MySQL: goose.DialectMySQL, store.Postgres: goose.DialectPostgres,
		store.SQLite: goose.DialectSQLite3}[d.Driver]
	old, err := goose.NewProvider(dialect, pool, os.DirFS("migrations/"+d.Driver),
		goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = old.UpTo(t.Context(), version)
	require.NoError(t, err)
	return db
}

func sprint(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

func TestUpgradeKeepsOrdersAndTheirEvents(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := migratedTo(t, d, 7)
			run := func(statement string, args ...any) error { return db.Write.Exec(statement, args...).Error }
			const order = "INSERT INTO orders (id, sale_id, user_id, slot, quantity, price_cents, currency, " +
				"status, seq, epoch, batch_id, admitted_at, released) VALUES (?, 's', ?, 0, 1, 1, 'EUR', " +
				"'confirmed', 1, 1, 'b', 1, ?)"
			require.NoError(t, run(order, "o2", "ann", 1))
			require.NoError(t, run(order, "o1", "bob", 0))
			const news = "INSERT INTO outbox (order_id, event, channel, sale_id, user_id, state, next_at, lease, " +
				"created_at) VALUES (?, 'order.confirmed', 'stream', 's', 'u', ?, ?, ?, ?)"
			require.NoError(t, run(news, "o2", 1, 50, "", 1))
			require.NoError(t, run(news, "o1", 0, 90, "THE-RELAY-THAT-HELD-IT", 2))

			_, err := db.Migrate(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.Ready(t.Context()))
			var rows []struct {
				OrderID                    string
				State                      int
				NextAt, Lease, LeasedUntil int64
			}
			require.NoError(t, db.Read.Table("outbox").Order("order_id").Find(&rows).Error)
			require.Len(t, rows, 2)
			require.Equal(t, "o1 0 90 0 0", sprint(rows[0].OrderID, rows[0].State, rows[0].NextAt, rows[0].Lease,
				rows[0].LeasedUntil))
			require.Equal(t, "o2 1 50 0 0", sprint(rows[1].OrderID, rows[1].State, rows[1].NextAt, rows[1].Lease,
				rows[1].LeasedUntil))
			var users []string
			require.NoError(t, db.Read.Table("orders").Where("released = 0").Pluck("user_id", &users).Error)
			require.Equal(t, []string{"bob"}, users)

			const again = "INSERT INTO outbox (order_id, event, channel, sale_id, user_id, created_at) VALUES (?, " +
				"'order.confirmed', 'stream', 's', 'u', 3)"
			require.Error(t, run(again, "o1"), "no news is queued twice")
			require.NoError(t, run(again, "o3"))
			require.Error(t, run(order, "o1", "eve", 1), "no order is made twice")
			require.NoError(t, run(order, "o3", "eve", 1))
		})
	}
}
