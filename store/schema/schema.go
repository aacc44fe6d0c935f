package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Range is the schema versions that a build works with. A build needs version Oldest. It does not know versions above
// Newest, but works with those that the database allows. Builds that announce no range have a zero Range.
type Range struct {
	Oldest int64 `json:"oldest"`
	Newest int64 `json:"newest"`
}

// Process is one running process and the schema versions that it works with.
type Process struct {
	Name    string    `json:"name"`
	Version string    `json:"version"` // of its build
	Schema  Range     `json:"schema"`  // zero: its build is too old to announce one
	Seen    time.Time `json:"seen"`
}

// Standing is the state of a database's schema, compared with this build.
type Standing struct {
	ID       string      // of the installation; empty: none yet
	Table    string      // the table of applied versions; empty: none yet
	Version  int64       // the newest that is applied; 0: none
	Range    Range       // of this build
	Newest   int64       // the newest that a build has announced; 0: none
	Least    int64       // the version that every process must know
	Unknown  []int64     // applied versions that this build does not have
	Pending  []Migration // additive ones that are not applied
	Waiting  []Migration // contracting ones that are not applied
	Complete []Migration // every migration of this build, oldest first
}

// Error says that this build must not use the database, and why. Repeating does not help.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// Refuses returns an Error when this build must not use the database, else nil.
func (s Standing) Refuses() error {
	if s.Least > s.Range.Newest {
		return &Error{fmt.Sprintf("this build is too old for the database: it knows schema versions up to %d, the "+
			"database wants "+
			"processes that know version %d (it is at %d): run a newer build", s.Range.Newest, s.Least, s.Version)}
	}
	if len(s.Unknown) > 0 && s.Newest < slices.Max(s.Unknown) {
		return &Error{fmt.Sprintf("the database is newer than this build: it is at schema version %d, this build "+
			"knows versions up to %d, "+
			"and nothing in the database allows older builds beside it: run the build that made version %d",
			slices.Max(s.Unknown), s.Range.Newest, slices.Max(s.Unknown))}
	}
	return nil
}

// Lacks returns an error that names the missing additive migrations, or nil.
func (s Standing) Lacks() error {
	if len(s.Pending) == 0 {
		return nil
	}
	return fmt.Errorf("database lacks %d migrations (%s): run `sluice migrate up`", len(s.Pending), namesOf(s.Pending))
}

func namesOf(migrations []Migration) string {
	names := make([]string, len(migrations))
	for i, m := range migrations {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}

// Range returns the schema versions that this build works with.
func (db *Schema) Range() (Range, error) {
	known, err := db.carried()
	if err != nil {
		return Range{}, err
	}
	return rangeOf(known), nil
}

func rangeOf(known []Migration) (r Range) {
	for _, m := range known {
		r.Newest = max(r.Newest, m.Version)
		if !m.Contract {
			r.Oldest = max(r.Oldest, m.Version)
		}
	}
	return r
}

// Look reads the state of the schema. It changes nothing, not even on an empty database.
func (db *Schema) Look(ctx context.Context) (Standing, error) {
	known, err := db.carried()
	if err != nil {
		return Standing{}, err
	}
	s := Standing{Range: rangeOf(known), Complete: known}
	ctx, cancel := context.WithTimeout(ctx, db.Timeout())
	defer cancel()
	found, err := db.tables(ctx)
	var applied map[int64]time.Time
	if err == nil {
		applied, err = db.history(ctx, found, &s)
	}
	if err == nil && installed(found) {
		err = db.announced(ctx, &s)
	}
	if err != nil {
		return Standing{}, fmt.Errorf("read the schema version of the %s database: %w", db.Driver, err)
	}
	s.compare(applied)
	return s, nil
}

// compare fills in the lists from the applied versions and the migrations of this build.
func (s *Standing) compare(applied map[int64]time.Time) {
	carried := make(map[int64]bool, len(s.Complete))
	for i := range s.Complete {
		m := &s.Complete[i]
		carried[m.Version] = true
		at, ok := applied[m.Version]
		m.AppliedAt, m.Pending = at, !ok
		switch {
		case ok:
		case m.Contract:
			s.Waiting = append(s.Waiting, *m)
		default:
			s.Pending = append(s.Pending, *m)
		}
	}
	for version := range applied {
		s.Version = max(s.Version, version)
		if version > 0 && !carried[version] {
			s.Unknown = append(s.Unknown, version)
		}
	}
	slices.Sort(s.Unknown)
}

// history reads the applied versions from Sluice's own table, or from goose's in an older installation.
func (db *Schema) history(ctx context.Context, found map[string][]string, s *Standing) (map[int64]time.Time, error) {
	for _, table := range []string{versionTable, gooseTable} {
		if found[table] == nil {
			continue
		}
		applied, err := db.versionsIn(ctx, table)
		if err != nil {
			return nil, err
		}
		if table == gooseTable && db.notOurs(found, applied) != nil {
			return nil, nil
		}
		if len(applied) > 0 {
			s.Table = table
			return applied, nil
		}
	}
	return nil, nil
}

func (db *Schema) versionsIn(ctx context.Context, table string) (map[int64]time.Time, error) {
	var rows []struct {
		VersionID int64
		Tstamp    time.Time
	}
	err := db.Read.WithContext(ctx).Raw("SELECT version_id, tstamp FROM "+table+" WHERE is_applied = ?",
		true).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	applied := make(map[int64]time.Time, len(rows))
	for _, row := range rows {
		applied[row.VersionID] = row.Tstamp.UTC()
	}
	return applied, nil
}

// MigrationStatus returns every migration of this build, oldest first. It changes nothing, not even on an empty
// database.
func (db *Schema) MigrationStatus(ctx context.Context) ([]Migration, error) {
	s, err := db.Look(ctx)
	return s.Complete, err
}

// Ready returns an error while additive migrations are pending or this build must not use the database. It also does
// when the database does not answer.
func (db *Schema) Ready(ctx context.Context) error {
	s, err := db.Look(ctx)
	if err != nil {
		return err
	}
	if err := s.Refuses(); err != nil {
		return err
	}
	return s.Lacks()
}
