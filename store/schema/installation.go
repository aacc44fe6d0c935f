package schema

import (
	"context"
	"fmt"
	"time"

	"sluice/store"

	"github.com/google/uuid"
)

const (
	installationTable = "installation"
	processesTable    = "processes"
)

// installed reports whether the database has our table installation, not a foreign one of that name.
func installed(found map[string][]string) bool {
	return hasColumns(found[installationTable], []string{"only_one", "id", "schema_newest", "schema_least"})
}

// Installation returns the id of the installation that the database belongs to, or "" if it has none yet.
func (db *Schema) Installation(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	found, err := db.tables(ctx)
	if err != nil || !installed(found) {
		return "", err
	}
	var id string
	if err := db.Read.WithContext(ctx).Raw("SELECT id FROM " + installationTable).Scan(&id).Error; err != nil {
		return "", fmt.Errorf("read the id of the installation: %w", err)
	}
	return id, nil
}

// Found gives the database a random installation id, unless it has one, and returns its id. Several processes may call
// it at once.
func (db *Schema) Found(ctx context.Context, now time.Time) (string, error) {
	call, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	ignore, end := "INSERT", " ON CONFLICT DO NOTHING"
	if db.Driver == store.MySQL {
		ignore, end = "INSERT IGNORE", ""
	}
	known, err := db.Range()
	if err != nil {
		return "", err
	}
	err = db.Write.WithContext(call).Exec(ignore+" INTO "+installationTable+" (only_one, id, schema_newest, "+
		"schema_least, created_at) VALUES (1, ?, ?, 0, ?)"+end,
		uuid.NewString(), known.Newest, now.UnixMilli()).Error
	if err != nil {
		return "", fmt.Errorf("note the id of the installation: %w", err)
	}
	return db.Installation(ctx)
}

// announced reads the installation's id and the versions that builds have announced.
func (db *Schema) announced(ctx context.Context, s *Standing) error {
	var row struct {
		ID                        string
		SchemaNewest, SchemaLeast int64
	}
	err := db.Read.WithContext(ctx).Raw("SELECT id, schema_newest, schema_least FROM " +
		installationTable).Scan(&row).Error
	s.ID, s.Newest, s.Least = row.ID, row.SchemaNewest, row.SchemaLeast
	return err
}

// announce records that a version is about to be applied. Unless least is 0, it also records that processes must know
// version least. It does nothing on a database without an installation, which no process uses.
func (db *Schema) announce(ctx context.Context, newest, least int64) error {
	found, err := db.tables(ctx)
	if err != nil || !installed(found) {
		return err
	}
	err = db.Write.WithContext(ctx).Exec("UPDATE "+installationTable+" SET schema_newest = CASE WHEN schema_newest < "+
		"? THEN ? ELSE schema_newest END, "+
		"schema_least = CASE WHEN schema_least < ? THEN ? ELSE schema_least END", newest, newest, least, least).Error
	if err != nil {
		return fmt.Errorf("announce schema version %d: %w", newest, err)
	}
	return nil
}

// retract lowers the required version to least again, after a contracting migration was announced too early.
func (db *Schema) retract(ctx context.Context, least int64) error {
	err := db.Write.WithContext(ctx).Exec("UPDATE "+installationTable+" SET schema_least = ? WHERE schema_least > ?",
		least, least).Error
	if err != nil {
		return fmt.Errorf("retract an announced schema version: %w", err)
	}
	return nil
}
