package store

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/pressly/goose/v3"
)

// MigrationStatus lists every migration this binary carries, oldest first. It changes nothing, not even on an empty
// database.
func (db *DB) MigrationStatus(ctx context.Context) ([]Migration, error) {
	s, err := db.Look(ctx)
	return s.Complete, err
}

// Ready fails while additive migrations are pending, when this build must not use the database, and when the database
// cannot be asked.
func (db *DB) Ready(ctx context.Context) error {
	s, err := db.Look(ctx)
	if err != nil {
		return err
	}
	if err := s.Refuses(); err != nil {
		return err
	}
	return s.Lacks()
}

// carried lists the migrations of this build, oldest first. One whose file has the line "-- +sluice contract" takes
// something away that builds which do not know it still use; every other only adds.
func (db *DB) carried() ([]Migration, error) {
	names, err := fs.Glob(db.files, path.Join("migrations", db.Driver, "*.sql"))
	if err != nil {
		return nil, err
	}
	migrations := make([]Migration, 0, len(names))
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		text, err := fs.ReadFile(db.files, name)
		if err != nil {
			return nil, err
		}
		one := Migration{Version: version, Name: strings.TrimSuffix(path.Base(name), ".sql"), Contract: contracts.Match(text)}
		if found := note.FindSubmatch(text); found != nil {
			one.Note = string(found[1])
		}
		migrations = append(migrations, one)
	}
	return migrations, nil
}
