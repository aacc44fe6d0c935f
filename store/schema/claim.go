package schema

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"sluice/store"

	"github.com/pressly/goose/v3/database"
)

// mostNamed bounds how many foreign tables a refusal names.
const mostNamed = 10

// own makes sure that the database is Sluice's before anything is written, and moves an older installation's versions
// over to Sluice's own table. The caller holds the lock of migrations.
func (db *Schema) own(ctx context.Context, pool *sql.DB) error {
	rows, err := db.claim(ctx)
	if err != nil || rows == "" {
		return err
	}
	if err := db.makeVersions(ctx, pool, rows); err != nil {
		return err
	}
	if rows == movedVersions {
		db.log.InfoContext(ctx, "the versions of the schema have moved to a table of Sluice's own", "from", gooseTable,
			"to", versionTable)
	}
	return nil
}

// Fits returns a Error when the database holds tables of others that keep Sluice out, else nil. It changes
// nothing.
func (db *Schema) Fits(ctx context.Context) error {
	_, err := db.claim(ctx)
	return err
}

// claim returns the first rows of the version table, "" when it has them, or why the database cannot be Sluice's.
func (db *Schema) claim(ctx context.Context) (rows string, err error) {
	found, err := db.tables(ctx)
	if err != nil {
		return "", err
	}
	if found[versionTable] != nil {
		versions, err := db.versionsIn(ctx, versionTable)
		if err != nil {
			return "", err
		}
		if len(versions) > 0 {
			return "", db.pendingCollide(ctx, found)
		}
	}
	if found[gooseTable] == nil {
		return firstVersion, db.refuseForeign(found, false, nil)
	}
	versions, err := db.versionsIn(ctx, gooseTable)
	if err != nil {
		return "", err
	}
	_, begun := versions[0]
	half := len(versions) == 0 || begun && len(versions) == 1 // ended before its first step was noted
	if why := db.notOurs(found, versions); why != nil || half {
		return firstVersion, db.refuseForeign(found, half && why == nil, why)
	}
	return movedVersions, nil
}

// The first rows of the version table: goose wants version 0 there, an older installation brings its own.
const (
	firstVersion  = "INSERT INTO " + versionTable + " (version_id, is_applied) VALUES (0, TRUE)"
	movedVersions = "INSERT INTO " + versionTable +
		" (version_id, is_applied, tstamp) SELECT version_id, is_applied, " +
		"tstamp FROM " +
		gooseTable + " ORDER BY id"
)

// refuseForeign keeps a first installation away from what belongs to others. half: an installation of ours was
// interrupted.
func (db *Schema) refuseForeign(found map[string][]string, half bool, why error) error {
	names, err := db.foreign(found, half)
	if err != nil || len(names) == 0 {
		return err
	}
	listed := strings.Join(names[:min(len(names), mostNamed)], ", ")
	if more := len(names) - mostNamed; more > 0 {
		listed += fmt.Sprintf(" and %d more", more)
	}
	text := fmt.Sprintf("the database holds tables that are not Sluice's (%s): Sluice wants a database or schema of "+
		"its own; create an empty "+
		"one and name it in database.dsn. Nothing was changed", listed)
	if why != nil {
		text += " (" + why.Error() + ")"
	}
	return &Error{text}
}

// pendingCollide refuses when a table that is to be made is there already and is not ours.
func (db *Schema) pendingCollide(ctx context.Context, found map[string][]string) error {
	s, err := db.Look(ctx)
	if err != nil {
		return err
	}
	made, err := db.ours(1 << 62)
	if err != nil {
		return err
	}
	for name, columns := range made {
		if found[name] != nil && !holds(found[name], columns) {
			return &Error{fmt.Sprintf("the database holds a table %s that is not Sluice's, which wants the name: "+
				"rename that table, or give "+
				"Sluice a database or schema of its own (database.dsn). Nothing was changed; the schema is at version "+
				"%d", name, s.Version)}
		}
	}
	return nil
}

// makeVersions makes the version table with its first rows: as a whole or, on MySQL, which commits the table by
// itself, as an empty table that counts as none. SQLite has no lock for migrations: an index keeps two processes from
// applying one twice.
func (db *Schema) makeVersions(ctx context.Context, pool *sql.DB, rows string) error {
	table, err := database.NewStore(db.gooseDialect(), versionTable)
	if err != nil {
		return err
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it has been committed, or another error is returned
	if err := table.CreateVersionTable(ctx, tx); err != nil {
		return fmt.Errorf("create %s: %w", versionTable, err)
	}
	steps := []string{rows}
	if db.Driver == store.SQLite {
		steps = append(steps, "CREATE UNIQUE INDEX "+versionTable+"_version ON "+versionTable+" (version_id)")
	}
	for _, step := range steps {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("fill %s: %w", versionTable, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("fill %s: %w", versionTable, err)
	}
	return nil
}
