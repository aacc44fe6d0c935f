package store

import (
	"fmt"
	"strconv"
	"strings"
)

// bulkColumn is a column with the PostgreSQL type of its values.
type bulkColumn struct{ name, kind string }

func columnsOf[T any](fields []Field[T]) []bulkColumn {
	columns := make([]bulkColumn, len(fields))
	for i, f := range fields {
		columns[i] = bulkColumn{name: f.Name, kind: "bigint"}
		if f.Text != nil {
			columns[i].kind = "text"
		}
	}
	return columns
}

// bulkSQL builds the SQL of a bulk insert.
type bulkSQL struct {
	driver, table string
	shared, own   []bulkColumn
}

func (s bulkSQL) head() string { return s.insert("INSERT") }

func (s bulkSQL) insert(verb string) string {
	names := make([]string, 0, len(s.shared)+len(s.own))
	for _, columns := range [][]bulkColumn{s.shared, s.own} {
		for _, c := range columns {
			names = append(names, c.name)
		}
	}
	return verb + " INTO " + s.table + " (" + strings.Join(names, ",") + ")"
}

// text returns the statement for a number of rows. PostgreSQL's takes arrays of any length.
func (s bulkSQL) text(rows int) string {
	switch s.driver {
	case Postgres:
		return s.head() + s.unnest() + " ON CONFLICT DO NOTHING"
	case SQLite:
		// OR IGNORE skips rows that break any rule; see insertIgnored. A statement that cannot fail halfway needs no
		// undo copy of pages, which would cost a tenth of the insert.
		return s.insert("INSERT OR IGNORE") + s.values(rows)
	}
	key := s.own[0].name // a no-op: MySQL's way to skip conflicting rows without hiding other errors
	return s.head() + s.values(rows) + " ON DUPLICATE KEY UPDATE " + key + "=" + key
}

// strict returns SQLite's statement that skips conflicts and nothing else.
func (s bulkSQL) strict(rows int) string {
	return s.head() + s.values(rows) + " ON CONFLICT DO NOTHING"
}

func (s bulkSQL) values(rows int) string {
	var row strings.Builder
	for i := range s.shared {
		if s.driver == SQLite {
			row.WriteString("?" + strconv.Itoa(i+1) + ",")
		} else {
			row.WriteString("?,")
		}
	}
	row.WriteString(strings.TrimSuffix(strings.Repeat("?,", len(s.own)), ","))
	return " VALUES (" + row.String() + strings.Repeat("),("+row.String(), rows-1) + ")"
}

func (s bulkSQL) unnest() string {
	var shared, own []string
	for i, c := range s.shared {
		shared = append(shared, fmt.Sprintf("$%d::%s,", i+1, c.kind))
	}
	for i, c := range s.own {
		own = append(own, fmt.Sprintf("$%d::%s[]", len(s.shared)+i+1, c.kind))
	}
	return " SELECT " + strings.Join(shared, "") + "r.* FROM unnest(" + strings.Join(own, ",") + ") AS r"
}
