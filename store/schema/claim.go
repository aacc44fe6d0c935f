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

// claimDatabase checks that the database may be Sluice's before anything is written. It moves an older installation's
// versions to Sluice's own table. The caller must have the migration lock.
func (db *Schema) claimDatabase(ctx context.Context, pool *sql.DB) error {
	rows, err := db.firstVersions(ctx)
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

// Fits returns an Error when foreign tables in the database keep Sluice out, else nil. It changes nothing.
func (db *Schema) Fits(ctx context.Context) error {
	_, err := db.firstVersions(ctx)
	return err
}

// firstVersions returns the first rows of the version table, or "" if it has them. It returns an Error if the database
// cannot be Sluice's.
func (db *Schema) firstVersions(ctx context.Context) (rows string, err error) {
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
	half := len(versions) == 0 || begun && len(versions) == 1 // interrupted before its first step was recorded
	if why := db.notOurs(found, versions); why != nil || half {
		return firstVersion, db.refuseForeign(found, half && why == nil, why)
	}
	return movedVersions, nil
}

// The first rows of the version table: version 0 for goose, or an older installation's versions.
const (
	firstVersion  = "INSERT INTO " + versionTable + " (version_id, is_applied) VALUES (0, TRUE)"
	movedVersions = "INSERT INTO " + versionTable +
		" (version_id, is_applied, tstamp) SELECT version_id, is_applied, " +
		"tstamp FROM " +
		gooseTable + " ORDER BY id"
)

// refuseForeign returns an Error if foreign tables prevent a first installation. half says that an installation of ours
// was interrupted.
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

// pendingCollide returns an Error if a table that a pending migration creates exists and is not ours.
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
		if found[name] != nil && !hasColumns(found[name], columns) {
			return &Error{fmt.Sprintf("the database holds a table %s that is not Sluice's, which wants the name: "+
				"rename that table, or give "+
				"Sluice a database or schema of its own (database.dsn). Nothing was changed; the schema is at version "+
				"%d", name, s.Version)}
		}
	}
	return nil
}

// makeVersions creates the version table with its first rows in one transaction. MySQL commits the table by itself; an
// empty one counts as none. SQLite has no migration lock: there an index keeps two processes from applying a migration
// twice.
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
