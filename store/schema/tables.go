package schema

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"sluice/store"
)

const (
	// versionTable is Sluice's own name, because other programs use goose's default.
	versionTable = "sluice_schema"
	// gooseTable is the version table of builds before version 10. It stays after the move, unused.
	gooseTable = "goose_db_version"
	// lastInGoose is the newest version that was ever recorded in gooseTable.
	lastInGoose = 9
)

// tables returns the tables and views of the database's current schema, each with its columns. It leaves out what
// belongs to an extension of PostgreSQL.
func (db *Schema) tables(ctx context.Context) (map[string][]string, error) {
	query := map[string]string{
		store.MySQL: "SELECT table_name AS name, column_name AS field FROM information_schema.columns WHERE " +
			"table_schema = " +
			"DATABASE()",
		store.Postgres: `SELECT c.relname AS name, COALESCE(a.attname, '') AS field FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace
			LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
			AND NOT EXISTS (SELECT 1 FROM pg_depend d
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`,
		store.SQLite: `SELECT m.name AS name, p.name AS field FROM sqlite_master m JOIN pragma_table_info(m.name) p
			WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite!_%' ESCAPE '!'`,
	}[db.Driver]
	var rows []struct{ Name, Field string }
	if err := db.Read.WithContext(ctx).Raw(query).Scan(&rows).Error; err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for _, row := range rows {
		found[row.Name] = append(found[row.Name], row.Field)
	}
	return found, nil
}

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\n((?:    .*\n|\s*\n|\s*--.*\n)*)\)`)
	columnLine  = regexp.MustCompile(`(?m)^    ([a-z]\w*)\s`)
	dropColumn  = regexp.MustCompile(`DROP COLUMN (\w+)`)
	renamed     = regexp.MustCompile(`(?m)^ALTER TABLE \w+ RENAME TO (\w+)`)
	note        = regexp.MustCompile(`(?m)^-- \+sluice note (.+)$`)
	contracts   = regexp.MustCompile(`(?m)^-- \+sluice contract\s*$`)
)

// created returns the tables that one migration creates, each with its columns.
func created(text string) map[string][]string {
	made := map[string][]string{}
	for _, m := range createTable.FindAllStringSubmatch(text, -1) {
		for _, column := range columnLine.FindAllStringSubmatch(m[2], -1) {
			made[m[1]] = append(made[m[1]], column[1])
		}
	}
	for _, m := range renamed.FindAllStringSubmatch(text, -1) {
		made[m[1]] = []string{}
	}
	return made
}

// ours returns the tables that the migrations up to a version create. It leaves out columns that any migration drops,
// because they prove nothing.
func (db *Schema) ours(upTo int64) (map[string][]string, error) {
	known, err := db.carried()
	if err != nil {
		return nil, err
	}
	all, dropped := map[string][]string{}, map[string]bool{}
	for _, m := range known {
		text, err := fs.ReadFile(db.files, path.Join("migrations", db.Driver, m.Name+".sql"))
		if err != nil {
			return nil, err
		}
		for _, column := range dropColumn.FindAllStringSubmatch(string(text), -1) {
			dropped[column[1]] = true
		}
		if m.Version <= upTo {
			for name, columns := range created(string(text)) {
				if all[name] == nil {
					all[name] = columns
				}
			}
		}
	}
	for name, columns := range all {
		all[name] = slices.DeleteFunc(columns, func(column string) bool { return dropped[column] })
	}
	return all, nil
}

// hasColumns reports whether a found table has all the columns of one of ours.
func hasColumns(found, ours []string) bool {
	return found != nil && !slices.ContainsFunc(ours, func(column string) bool {
		return !slices.Contains(found,
			column)
	})
}

// notOurs returns why the versions in gooseTable are not Sluice's, or nil if they are.
func (db *Schema) notOurs(found map[string][]string, applied map[int64]time.Time) error {
	known, err := db.carried()
	if err != nil {
		return err
	}
	newest := int64(0)
	for version := range applied {
		newest = max(newest, version)
	}
	expected := map[int64]bool{0: true}
	for _, m := range known {
		if m.Version <= min(newest, lastInGoose) {
			expected[m.Version] = true
		}
	}
	made, err := db.ours(min(newest, lastInGoose))
	if err != nil {
		return err
	}
	for name, columns := range made {
		if len(columns) > 0 && !hasColumns(found[name], columns) {
			return fmt.Errorf("%s says version %d, and there is no table %s of Sluice", gooseTable, newest, name)
		}
	}
	for version := range applied {
		if !expected[version] {
			return fmt.Errorf("%s holds version %d, builds of Sluice noted versions up to %d there, and this build "+
				"knows "+
				"versions up to %d: "+
				"another program shares the table, or a build that is not known here wrote it",
				gooseTable, version, lastInGoose, known[len(known)-1].Version)
		}
	}
	for version := range expected {
		if _, ok := applied[version]; !ok && version > 0 {
			return fmt.Errorf("%s lacks version %d", gooseTable, version)
		}
	}
	return nil
}

// foreign returns the tables that prevent a first installation: all that are not left from an interrupted one.
func (db *Schema) foreign(found map[string][]string, half bool) ([]string, error) {
	made, err := db.ours(1 << 62)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		columns, ours := made[name]
		if name == versionTable || half && (name == gooseTable || ours && hasColumns(found[name], columns)) {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// carried returns the migrations of this build, oldest first. A file with the line "-- +sluice contract" removes
// something that older builds use; every other only adds.
func (db *Schema) carried() ([]Migration, error) {
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
		one := Migration{Version: version, Name: strings.TrimSuffix(path.Base(name), ".sql"),
			Contract: contracts.Match(text)}
		if found := note.FindSubmatch(text); found != nil {
			one.Note = string(found[1])
		}
		migrations = append(migrations, one)
	}
	return migrations, nil
}
