package schema

import "io/fs"

// Carrying returns the schema of the same database for a build with other migrations.
func (db *Schema) Carrying(files fs.FS) *Schema {
	other := *db
	other.files = files
	return &other
}

// Ours returns the tables that the migrations create.
func (db *Schema) Ours() (map[string][]string, error) { return db.ours(1 << 62) }

// MigrationFiles returns the migrations of this build.
func MigrationFiles() fs.FS { return migrationFiles }
