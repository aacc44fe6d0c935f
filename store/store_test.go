package store_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// order is the part of the orders table that these tests need; other columns have defaults.
type order struct {
	ID         string `gorm:"primaryKey"`
	SaleID     string
	UserID     string
	Slot       *int
	Quantity   int
	PriceCents int64
	Currency   string
	Status     string
	Email      string
	Seq        int64
	Epoch      int64
	BatchID    string
	AdmittedAt int64
}

func (order) TableName() string { return "orders" }

func newOrder(n int) order {
	slot := 0
	return order{ID: fmt.Sprintf("order-%04d", n), SaleID: "s1", UserID: fmt.Sprintf("user-%04d", n), Slot: &slot,
		Quantity: 1, PriceCents: 9900, Currency: "CNY", Status: "confirmed", BatchID: "b1", AdmittedAt: 1}
}

func config(d testkit.Database) store.Config {
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	return cfg
}

func open(t *testing.T, cfg store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// onEveryDatabase runs the test on a migrated database of every driver.
func onEveryDatabase(t *testing.T, test func(t *testing.T, db *store.DB)) {
	onEveryConfig(t, func(t *testing.T, db *store.DB, _ store.Config) { test(t, db) })
}

// onEveryConfig does the same for tests that open the database once more.
func onEveryConfig(t *testing.T, test func(t *testing.T, db *store.DB, cfg store.Config)) {
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := open(t, config(d))
			_, err := schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			test(t, db, config(d))
		})
	}
}

func seedStock(t *testing.T, db *store.DB, sale string, total int64) {
	t.Helper()
	err := db.Write.Exec(
		`INSERT INTO sales (id, title, sku, price_cents, currency, per_user_limit, cap, state, starts_at, ends_at,
			created_at, updated_at)
		VALUES (?, 't', 'k', 1, 'CNY', 1, 1, 'open', 0, 0, 0, 0)`, sale).Error
	require.NoError(t, err)
	require.NoError(t, db.Write.Exec("INSERT INTO stock (sale_id, total, available) VALUES (?, ?, ?)", sale, total,
		total).Error)
}

func available(t *testing.T, db *store.DB, sale string) int64 {
	t.Helper()
	var n int64
	require.NoError(t, db.Read.Raw("SELECT available FROM stock WHERE sale_id = ?", sale).Scan(&n).Error)
	return n
}

func takeStock(tx *gorm.DB, sale string, n int64) *gorm.DB {
	return tx.Exec("UPDATE stock SET available = available - ? WHERE sale_id = ? AND available >= ?", n, sale, n)
}

func TestConfigNamesTheKeyAtFault(t *testing.T) {
	t.Parallel()
	good := store.DefaultConfig()
	require.NoError(t, good.Validate())
	tests := map[string]struct {
		change func(*store.Config)
		want   string
	}{
		"driver": {func(c *store.Config) { c.Driver = "oracle" },
			`database.driver: "oracle" is unknown, use sqlite, mysql or postgres`},
		"empty dsn": {func(c *store.Config) { c.DSN = " " }, "database.dsn: is empty"},
		"memory":    {func(c *store.Config) { c.DSN = ":memory:" }, "database.dsn: an in-memory"},
		"mysql dsn": {func(c *store.Config) { c.Driver, c.DSN = "mysql", "root:secret@x" },
			"database.dsn: is not a MySQL DSN"},
		"mysql no db": {func(c *store.Config) { c.Driver, c.DSN = "mysql", "root:secret@tcp(h:1)/" },
			"database.dsn: is not a MySQL DSN"},
		"postgres dsn": {func(c *store.Config) { c.Driver, c.DSN = "postgres", "postgres://u:secret@h:x/db" },
			"database.dsn: is not a PostgreSQL URL"},
		"connections": {func(c *store.Config) { c.MaxConns = 0 },
			"database.max_conns: 0 is out of range, use 1 to 1000"},
		"timeout": {func(c *store.Config) { c.TxTimeout = time.Hour },
			"database.tx_timeout: 1h0m0s is out of range"},
		"pooler": {func(c *store.Config) { c.Pooler = "session" },
			`database.pooler: "session" is unknown, use auto, none or transaction`},
		"pooler of": {func(c *store.Config) { c.Pooler = store.PoolerTransaction },
			"database.pooler: transaction is for postgres"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tt.change(&cfg)
			err := cfg.Validate()
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestPingAndCloseTwice(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.Ping(t.Context()))
		require.NoError(t, db.Close())
		require.NoError(t, db.Close())
		err := db.Ping(t.Context())
		require.Error(t, err)
		require.True(t, store.Unavailable(err), "%v", err)
	})
}

func TestSQLiteReadersCannotWrite(t *testing.T) {
	t.Parallel()
	db := open(t, config(testkit.NewDatabase(t, store.SQLite)))
	_, err := schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	seedStock(t, db, "s1", 1)
	require.Error(t, takeStock(db.Read, "s1", 1).Error)
	require.EqualValues(t, 1, available(t, db, "s1"))
}

func TestSQLiteIsDurableAndWaits(t *testing.T) {
	t.Parallel()
	// A path with characters that mean something in a URI, in a folder that does not exist yet.
	db := open(t, config(testkit.Database{Driver: store.SQLite, DSN: t.TempDir() + "/new dir/a?b%20#c.db"}))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1",
		"busy_timeout": "5000"} {
		var got string
		require.NoError(t, db.Write.Raw("PRAGMA "+pragma).Scan(&got).Error)
		require.Equal(t, want, got, pragma)
	}
}
