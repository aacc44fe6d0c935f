package store

import "io/fs"

// Carrying returns the same database as a build that carries other migrations.
func (db *DB) Carrying(files fs.FS) *DB {
	other := *db
	other.files = files
	return &other
}

// Ours are the tables that the migrations make.
func (db *DB) Ours() (map[string][]string, error) { return db.ours(1 << 62) }

// MigrationFiles are those of this build.
func MigrationFiles() fs.FS { return migrationFiles }
