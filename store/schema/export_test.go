package schema

import "io/fs"

// Carrying returns the schema of the same database as a build that carries other migrations.
func (db *Schema) Carrying(files fs.FS) *Schema {
	other := *db
	other.files = files
	return &other
}

// Ours are the tables that the migrations make.
func (db *Schema) Ours() (map[string][]string, error) { return db.ours(1 << 62) }

// MigrationFiles are those of this build.
func MigrationFiles() fs.FS { return migrationFiles }
