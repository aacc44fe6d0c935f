package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

func TestErrorsOfTheRow(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		seedStock(t, db, "s1", 1)
		existing := newOrder(1)
		require.NoError(t, db.Write.Create(&existing).Error)
		create := func(change func(*order)) error {
			row := newOrder(2)
			change(&row)
			return db.Write.Create(&row).Error
		}
		faults := map[string]error{
			"too long": create(func(o *order) { o.Email = strings.Repeat("x", 255) }),
			"check":    db.Write.Exec("UPDATE stock SET available = -1 WHERE sale_id = 's1'").Error,
			"foreign key": db.Write.Exec("INSERT INTO stock (sale_id, total, available) VALUES ('none', 1, 1)").
				Error,
			"null":            db.Write.Exec("UPDATE orders SET user_id = NULL WHERE id = ?", existing.ID).Error,
			"primary key":     create(func(o *order) { o.ID = existing.ID }),
			"unique key":      create(func(o *order) { o.UserID = existing.UserID }),
			"a rule of ours":  db.Tx(t.Context(), func(*gorm.DB) error { return errors.New("no such slot") }),
			"nothing to find": db.Read.First(&order{}, "id = ?", "none").Error,
		}
		if db.Driver == store.Postgres {
			faults["NUL byte"] = create(func(o *order) { o.Email = "a\x00b" })
		}
		if db.Driver != store.SQLite {
			faults["not UTF-8"] = create(func(o *order) { o.Email = "a\xffb" })
		}
		for name, err := range faults {
			require.Error(t, err, name)
			require.False(t, store.Unavailable(err), "%s: %v", name, err)
			require.Equal(t, strings.HasSuffix(name, " key") && name != "foreign key", store.Duplicate(err), "%s: %v",
				name, err)
		}
		require.ErrorIs(t, faults["check"], gorm.ErrCheckConstraintViolated)
		require.ErrorIs(t, faults["foreign key"], gorm.ErrForeignKeyViolated)
		require.False(t, store.Unavailable(nil))
		require.False(t, store.Duplicate(nil))
	})
}

func TestErrorsOfTheDatabase(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *store.DB) {
		seedStock(t, db, "s1", 1)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancelLate := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancelLate()
		take := func(tx *gorm.DB) error { return takeStock(tx, "s1", 1).Error }
		faults := map[string]error{
			"no table":  db.Write.Exec("UPDATE nowhere SET a = 1").Error,
			"no column": db.Write.Exec("UPDATE stock SET missing = 1").Error,
			"cancelled": db.Tx(cancelled, take),
			"late":      db.Tx(late, take),
			"cancelled inside": func() error {
				ctx, cancel := context.WithCancel(t.Context())
				return db.Tx(ctx, func(tx *gorm.DB) error { cancel(); return take(tx) })
			}(),
		}
		if db.Driver != store.SQLite {
			faults["read-only"] = db.Write.Transaction(take, &sql.TxOptions{ReadOnly: true})
		} else {
			faults["read-only"] = take(db.Read)
		}
		for name, err := range faults {
			require.Error(t, err, name)
			require.True(t, store.Unavailable(err), "%s: %T %v", name, err, err)
			require.False(t, store.Duplicate(err), "%s: %v", name, err)
		}
		require.EqualValues(t, 1, available(t, db, "s1"))
	})
}

func TestSQLiteFullDisk(t *testing.T) {
	t.Parallel()
	db := open(t, config(testkit.NewDatabase(t, store.SQLite)))
	_, err := schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Write.Exec("PRAGMA max_page_count = 1").Error) // SQLite rounds it up to the size it has
	rows := make([]order, 500)
	for i := range rows {
		rows[i] = newOrder(i)
	}
	err = db.Tx(t.Context(), func(tx *gorm.DB) error { return tx.Create(&rows).Error })
	require.ErrorContains(t, err, "full")
	require.True(t, store.Unavailable(err), "%v", err)
	require.NoError(t, db.Write.Exec("PRAGMA max_page_count = 100000").Error)
	require.NoError(t, db.Tx(t.Context(), func(tx *gorm.DB) error { return tx.Create(&rows).Error }))
}

func TestUnknownDatabase(t *testing.T) {
	t.Parallel()
	my := config(testkit.NewDatabase(t, store.MySQL))
	parsed, err := mysql.ParseDSN(my.DSN)
	require.NoError(t, err)
	parsed.DBName = "sluice_nowhere"
	my.DSN = parsed.FormatDSN()
	pg := config(testkit.NewDatabase(t, store.Postgres))
	parsedPG, err := pgx.ParseConfig(pg.DSN)
	require.NoError(t, err)
	pg.DSN = strings.Replace(pg.DSN, "/"+parsedPG.Database, "/sluice_nowhere", 1)
	for _, cfg := range []store.Config{my, pg} {
		_, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "open "+cfg.Driver+" database")
		require.True(t, store.Unavailable(err), "%v", err)
	}
}

func TestLogsHoldNoValues(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			var logged bytes.Buffer
			db, err := store.Open(t.Context(), config(d), slog.New(slog.NewTextHandler(&logged, nil)))
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			_, err = schema.Of(db).Migrate(t.Context())
			require.NoError(t, err)
			row := newOrder(1)
			row.Email = "shopper@example.com" + strings.Repeat("x", 300)
			require.Error(t, db.Write.Create(&row).Error)
			require.Contains(t, logged.String(), "store: statement failed")
			require.Contains(t, logged.String(), "INSERT INTO")
			require.NotContains(t, logged.String(), "shopper@example.com")
			require.NotContains(t, logged.String(), "user-0001")
		})
	}
}
