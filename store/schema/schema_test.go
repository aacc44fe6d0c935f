package schema_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/store/schema"
)

// later returns the schema of a build with two more migrations: 98 adds a table, 99 removes a column.
func later(t *testing.T, db *schema.Schema) *schema.Schema {
	t.Helper()
	files := fstest.MapFS{}
	all, err := fs.Glob(schema.MigrationFiles(), path.Join("migrations", db.Driver, "*.sql"))
	require.NoError(t, err)
	for _, name := range all {
		text, err := fs.ReadFile(schema.MigrationFiles(), name)
		require.NoError(t, err)
		files[name] = &fstest.MapFile{Data: text}
	}
	folder := path.Join("migrations", db.Driver)
	files[folder+"/0098_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE more (\n    id BIGINT " +
		"NOT NULL PRIMARY KEY,\n    old BIGINT NULL\n);\n")}
	files[folder+"/0099_less.sql"] = &fstest.MapFile{Data: []byte("-- +sluice contract\n-- +goose Up\nALTER TABLE " +
		"more DROP COLUMN old;\n")}
	return db.Carrying(files)
}

func beat(t *testing.T, db *schema.Schema, name string) {
	t.Helper()
	known, err := db.Range()
	require.NoError(t, err)
	require.NoError(t, db.Beat(t.Context(), schema.Process{Name: name, Version: "v1", Schema: known}))
}

// migrated returns the schema of a database that this build has migrated.
func migrated(t *testing.T, d testkit.Database) *schema.Schema {
	t.Helper()
	db := open(t, config(d))
	_, err := db.Migrate(t.Context())
	require.NoError(t, err)
	_, err = db.Found(t.Context(), time.Now())
	require.NoError(t, err)
	return db
}

func TestContractingWaitsForOlderProcesses(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			older := migrated(t, d)
			newer := later(t, older)
			beat(t, older, "old-1")
			done, err := newer.MigrateBeside(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, "0098_more", namesIn(done.Applied))
			require.Equal(t, "0099_less", namesIn(done.Waiting))
			require.Len(t, done.For, 1)
			require.Equal(t, "old-1", done.For[0].Name)

			s, err := older.Look(t.Context())
			require.NoError(t, err)
			require.NoError(t, s.Refuses(), "an older build works beside what was only added")
			require.NoError(t, older.Ready(t.Context()))
			require.EqualValues(t, 98, s.Version)

			beat(t, newer, "new-1")
			require.NoError(t, older.Leave(t.Context(), "old-1"))
			others := func(context.Context) ([]schema.Process, error) {
				return []schema.Process{{Name: "old-2", Version: "v1", Schema: s.Range}}, nil
			}
			done, err = newer.MigrateBeside(t.Context(), others)
			require.NoError(t, err)
			require.Empty(t, done.Applied, "one that only Redis knows of counts as well")
			done, err = newer.MigrateBeside(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, "0099_less", namesIn(done.Applied))
			require.Empty(t, done.Waiting)

			s, err = older.Look(t.Context())
			require.NoError(t, err)
			var refused *schema.Error
			require.ErrorAs(t, s.Refuses(), &refused)
			require.Contains(t, refused.Error(), fmt.Sprintf("this build is too old for the database: it knows schema "+
				"versions up to %d, the database wants processes that know version 99", s.Range.Newest))
			_, err = older.Migrate(t.Context())
			require.ErrorAs(t, err, &refused)
			require.ErrorAs(t, older.Ready(t.Context()), &refused)
		})
	}
}

func namesIn(migrations []schema.Migration) string {
	var names []string
	for _, m := range migrations {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

func TestABuildThatTellsNoRangeKeepsEverythingBack(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *schema.Schema) {
		silent := func(context.Context) ([]schema.Process, error) {
			return []schema.Process{{Name: "host-1", Version: "d3c6ac5"}}, nil
		}
		_, err := db.MigrateBeside(t.Context(), silent)
		require.NoError(t, err, "nothing is pending")
		_, err = later(t, db).MigrateBeside(t.Context(), silent)
		require.ErrorContains(t, err, "2 migrations are pending")
		require.ErrorContains(t, err, "Stop these first: host-1 (version d3c6ac5)")
		require.False(t, db.Read.Migrator().HasTable("more"))
	})
}

// TestANewerDatabaseIsRefused covers case S4 of docs/faults.md.
func TestANewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"sluice_schema", "goose_db_version"} {
		for _, d := range testkit.Databases(t) {
			t.Run(table+" "+d.Driver, func(t *testing.T) {
				var db *schema.Schema
				if table == "sluice_schema" {
					db = migrated(t, d)
				} else {
					db = migratedTo(t, d, 9)
				}
				require.NoError(t, db.Write.Exec("INSERT INTO "+table+" (version_id, is_applied) VALUES (99, ?)",
					true).Error)
				_, err := db.Migrate(t.Context())
				require.ErrorContains(t, err, "version 99")
				require.ErrorContains(t, err, "this build knows versions up to")
				require.Error(t, db.Ready(t.Context()))
			})
		}
	}
}

// TestForeignTablesAreRefused covers case S5 of docs/faults.md.
func TestForeignTablesAreRefused(t *testing.T) {
	t.Parallel()
	const theirs = "CREATE TABLE orders (id BIGINT NOT NULL PRIMARY KEY, customer BIGINT NOT NULL)"
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			for name, statements := range map[string][]string{
				"orders": {theirs},
				"goose_db_version": {theirs,
					"CREATE TABLE goose_db_version (id BIGINT NOT NULL PRIMARY KEY, version_id BIGINT " +
						"NOT NULL, is_applied BOOLEAN NOT NULL, tstamp TIMESTAMP NULL)",
					"INSERT INTO goose_db_version VALUES (1, 0, TRUE, NULL), (2, 1, TRUE, NULL), (3, 2, TRUE, NULL)"},
				"customers":    {"CREATE VIEW customers AS SELECT 1 AS id"},
				"installation": {"CREATE TABLE installation (id BIGINT NOT NULL PRIMARY KEY)"},
				"processes":    {"CREATE TABLE processes (id BIGINT NOT NULL PRIMARY KEY)"},
			} {
				db := open(t, config(testkit.NewDatabase(t, d.Driver)))
				for _, statement := range statements {
					require.NoError(t, db.Write.Exec(statement).Error)
				}
				before := tablesOf(t, db)
				_, err := db.Migrate(t.Context())
				require.ErrorContains(t, err, "Sluice wants a database or schema of its own")
				require.ErrorContains(t, err, name)
				require.Equal(t, before, tablesOf(t, db), "nothing was made")
				var refused *schema.Error
				require.ErrorAs(t, db.Fits(t.Context()), &refused)
				running, err := db.Processes(t.Context())
				require.NoError(t, err)
				require.Empty(t, running)
			}
		})
	}
}

func tablesOf(t *testing.T, db *schema.Schema) []string {
	t.Helper()
	names, err := db.Read.Migrator().GetTables()
	require.NoError(t, err)
	slices.Sort(names)
	return names
}

// TestTablesBesideAnInstallation checks that foreign tables beside an installation are allowed, unless a migration
// needs the name.
func TestTablesBesideAnInstallation(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *schema.Schema) {
		require.NoError(t, db.Write.Exec("CREATE TABLE report (id BIGINT NOT NULL PRIMARY KEY)").Error)
		newer := later(t, db)
		require.NoError(t, db.Write.Exec("CREATE TABLE more (name VARCHAR(10) NOT NULL PRIMARY KEY)").Error)
		_, err := newer.Migrate(t.Context())
		require.ErrorContains(t, err, "a table more that is not Sluice's")
		require.NoError(t, db.Write.Exec("DROP TABLE more").Error)
		_, err = newer.Migrate(t.Context())
		require.NoError(t, err)
	})
}

func TestAnOlderInstallationMovesOverOnce(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := migratedTo(t, d, 7)
			_, err := db.Migrate(t.Context())
			require.NoError(t, err)
			var old, own []int64
			require.NoError(t, db.Read.Raw("SELECT version_id FROM goose_db_version ORDER BY version_id").Scan(&old).
				Error)
			require.Equal(t, []int64{0, 1, 2, 4, 5, 6, 7}, old, "it stays as it was")
			require.NoError(t, db.Read.Raw("SELECT version_id FROM sluice_schema ORDER BY version_id").Scan(&own).Error)
			require.Equal(t, []int64{0, 1, 2, 4, 5, 6, 7, 8, 9}, own[:9])
			s, err := db.Look(t.Context())
			require.NoError(t, err)
			require.Equal(t, "sluice_schema", s.Table)
			require.Empty(t, s.Pending)
		})
	}
}

func TestOurTablesAreThoseOfTheMigrations(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *schema.Schema) {
		ours, err := db.Ours()
		require.NoError(t, err)
		found := slices.DeleteFunc(tablesOf(t, db), func(name string) bool { return name == "sqlite_sequence" })
		delete(ours, "outbox_before") // for a moment, on SQLite
		ours["sluice_schema"] = nil
		require.Equal(t, slices.Sorted(maps.Keys(ours)), found)
		for name, columns := range ours {
			require.True(t, name == "sluice_schema" || len(columns) > 0, name)
		}
	})
}

func TestOneInstallation(t *testing.T) {
	t.Parallel()
	for _, d := range testkit.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			db := open(t, config(d))
			id, err := db.Installation(t.Context())
			require.NoError(t, err)
			require.Empty(t, id)
			db = migrated(t, d)
			first, err := db.Installation(t.Context())
			require.NoError(t, err)
			require.Len(t, first, 36)
			again, err := db.Found(t.Context(), time.Now())
			require.NoError(t, err)
			require.Equal(t, first, again)
		})
	}
}

func TestProcessesExpire(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, db *schema.Schema) {
		beat(t, db, "a")
		beat(t, db, "b")
		beat(t, db, "b")
		running, err := db.Processes(t.Context())
		require.NoError(t, err)
		require.Len(t, running, 2)
		require.WithinDuration(t, time.Now(), running[0].Seen, time.Minute)
		require.NoError(t, db.Beat(t.Context(), schema.Process{Name: "c", Version: strings.Repeat("v", 200)}))
		require.NoError(t, db.Leave(t.Context(), "c"))
		require.NoError(t, db.Write.Exec("UPDATE processes SET seen_at = seen_at - 16000 WHERE name = 'a'").Error)
		running, err = db.Processes(t.Context())
		require.NoError(t, err)
		require.Len(t, running, 1)
		require.NoError(t, db.Leave(t.Context(), "b"))
		running, err = db.Processes(t.Context())
		require.NoError(t, err)
		require.Empty(t, running)
	})
}
