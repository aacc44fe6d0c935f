package store

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// MigrationStatus lists every migration this binary carries, oldest first. It changes nothing, not even on an empty database.
func (db *DB) MigrationStatus(ctx context.Context) ([]Migration, error) {
	known, err := db.carried()
	if err != nil {
		return nil, err
	}
	applied, err := db.appliedVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the migrations of the %s database: %w", db.Driver, err)
	}
	for i := range known {
		at, ok := applied[known[i].Version]
		known[i].AppliedAt, known[i].Pending = at, !ok
	}
	return known, nil
}

// Ready fails while migrations are pending, and when the database cannot be asked.
func (db *DB) Ready(ctx context.Context) error {
	migrations, err := db.MigrationStatus(ctx)
	if err != nil {
		return err
	}
	var pending []string
	for _, m := range migrations {
		if m.Pending {
			pending = append(pending, m.Name)
		}
	}
	if len(pending) > 0 {
		return fmt.Errorf("database lacks %d migrations (%s): run `sluice migrate up`", len(pending), strings.Join(pending, ", "))
	}
	return nil
}

func (db *DB) carried() ([]Migration, error) {
	names, err := fs.Glob(migrationFiles, path.Join("migrations", db.Driver, "*.sql"))
	if err != nil {
		return nil, err
	}
	migrations := make([]Migration, 0, len(names))
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		migrations = append(migrations, Migration{Version: version, Name: strings.TrimSuffix(path.Base(name), ".sql")})
	}
	return migrations, nil
}

func (db *DB) appliedVersions(ctx context.Context) (map[int64]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.TxTimeout)
	defer cancel()
	read := db.Read.WithContext(ctx)
	if !read.Migrator().HasTable(versionTable) {
		// HasTable answers false to an error as well: an unreachable database must not look like an empty one.
		return nil, db.Ping(ctx)
	}
	var rows []struct {
		VersionID int64
		Tstamp    time.Time
	}
	if err := read.Raw("SELECT version_id, tstamp FROM "+versionTable+" WHERE is_applied = ?", true).Scan(&rows).Error; err != nil {
		return nil, err
	}
	applied := make(map[int64]time.Time, len(rows))
	for _, row := range rows {
		applied[row.VersionID] = row.Tstamp.UTC()
	}
	return applied, nil
}
