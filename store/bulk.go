package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"
)

// Column is one column of the rows of a bulk insert: texts or whole numbers, one for each row.
type Column struct {
	Name  string
	Texts []string
	Ints  []int64
}

func (c Column) len() int { return max(len(c.Texts), len(c.Ints)) }

func (c Column) value(row int) any {
	if c.Texts != nil {
		return c.Texts[row]
	}
	return c.Ints[row]
}

// kind is the PostgreSQL type of its values.
func (c Column) kind() string {
	if c.Texts != nil {
		return "text"
	}
	return "bigint"
}

// Bulk inserts many rows into one table by statements that stay prepared. It is for the one hot insert of a table: all
// columns that it does not name take their defaults. Safe for concurrent use.
type Bulk struct {
	db        *DB
	statement shape
	steps     []int // rows of its prepared statements, the largest first
	mu        sync.Mutex
	prepared  map[int]*sql.Stmt // by rows
}

// bulkRows is how many rows one prepared statement carries over a network.
const bulkRows = 250

// NewBulk describes the insert: shared columns have the same value in all rows of a call, own columns one for each row.
// The columns' values only tell their kind.
func (db *DB) NewBulk(table string, shared, own []Column) *Bulk {
	b := &Bulk{db: db, statement: shape{driver: db.Driver, table: table, shared: shared, own: own}, prepared: map[int]*sql.Stmt{}}
	// A statement of a SQLite in this process costs nothing to call, but much to compile: any number of rows is made of
	// prepared steps. Over a network each call is a round trip: full pieces are prepared, the rest is one text.
	switch db.Driver {
	case SQLite:
		b.steps = slices.DeleteFunc([]int{2048, 256, 32, 4, 1}, func(rows int) bool { return len(shared)+rows*len(own) > sqliteParams })
	case MySQL:
		b.steps = []int{bulkRows}
	}
	return b
}

// Prepare makes the statements ready; it must be called outside a transaction, before Insert, and costs nothing when it
// has succeeded before.
func (b *Bulk) Prepare(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rows := range b.steps {
		if b.prepared[rows] != nil {
			continue
		}
		stmt, err := b.db.Pool().PrepareContext(ctx, b.statement.text(rows))
		if err != nil {
			return fmt.Errorf("prepare the insert into %s: %w", b.statement.table, err)
		}
		b.prepared[rows] = stmt
	}
	return nil
}

// Insert adds rows within tx, a transaction of the same database, and skips every row that conflicts with one already there
// on any unique key; it returns how many were inserted. The columns come as they were described to NewBulk, shared ones with one value.
func (b *Bulk) Insert(tx *gorm.DB, shared, own []Column) (inserted int64, err error) {
	rows := own[0].len()
	if b.db.Driver == Postgres {
		return b.run(tx, nil, func() string { return b.statement.text(0) }, arrays(shared, own))
	}
	for from := 0; from < rows; {
		n, stmt := b.step(rows - from)
		args := b.flat(shared, own, from, n)
		done, err := b.run(tx, stmt, func() string { return b.statement.text(n) }, args)
		if err == nil && done < int64(n) && b.db.Driver == SQLite {
			done, err = b.again(tx, n, args, done)
		}
		if err != nil {
			return inserted, err
		}
		inserted, from = inserted+done, from+n
	}
	return inserted, nil
}

// again looks at rows of which SQLite has ignored some: by now only those are missing that conflict, and those that break
// another rule of the table, and of these it returns the error.
func (b *Bulk) again(tx *gorm.DB, rows int, args []any, inserted int64) (int64, error) {
	more, err := b.run(tx, nil, func() string { return b.statement.strict(rows) }, args)
	return inserted + more, err
}

// step is the largest prepared statement for what is left, or none and all of it.
func (b *Bulk) step(left int) (rows int, stmt *sql.Stmt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.steps {
		if n <= left && b.prepared[n] != nil {
			return n, b.prepared[n]
		}
	}
	return min(left, bulkRows), nil
}

// run executes one statement on the transaction's connection: stmt, or the text where there is none.
func (b *Bulk) run(tx *gorm.DB, stmt *sql.Stmt, text func() string, args []any) (inserted int64, err error) {
	ctx, began := tx.Statement.Context, time.Now()
	defer func() {
		tx.Logger.Trace(ctx, began, func() (string, int64) { return b.statement.head(), inserted }, err)
	}()
	var done sql.Result
	if conn, ok := tx.Statement.ConnPool.(*sql.Tx); ok && stmt != nil {
		done, err = conn.StmtContext(ctx, stmt).ExecContext(ctx, args...)
	} else {
		done, err = tx.Statement.ConnPool.ExecContext(ctx, text(), args...)
	}
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// flat are the arguments of n rows in a row: where parameters have numbers, each shared value comes once, before them.
func (b *Bulk) flat(shared, own []Column, from, n int) []any {
	common := make([]any, len(shared))
	for i, c := range shared {
		common[i] = c.value(0)
	}
	args := make([]any, 0, n*(len(shared)+len(own)))
	if b.db.Driver == SQLite {
		args = append(args, common...)
		common = nil
	}
	for row := from; row < from+n; row++ {
		args = append(args, common...)
		for _, c := range own {
			args = append(args, c.value(row))
		}
	}
	return args
}

// arrays are the arguments where a column is one array.
func arrays(shared, own []Column) []any {
	args := make([]any, 0, len(shared)+len(own))
	for _, c := range shared {
		args = append(args, c.value(0))
	}
	for _, c := range own {
		if c.Texts != nil {
			args = append(args, c.Texts)
		} else {
			args = append(args, c.Ints)
		}
	}
	return args
}

// shape writes the text of a bulk insert.
type shape struct {
	driver, table string
	shared, own   []Column
}

func (s shape) head() string { return s.insert("INSERT") }

func (s shape) insert(verb string) string {
	var b strings.Builder
	b.WriteString(verb + " INTO " + s.table + " (")
	for i, c := range append(s.shared[:len(s.shared):len(s.shared)], s.own...) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.Name)
	}
	b.WriteByte(')')
	return b.String()
}

// text is the statement for so many rows. PostgreSQL's takes arrays and has one text whatever their length.
func (s shape) text(rows int) string {
	switch s.driver {
	case Postgres:
		return s.head() + s.unnest() + " ON CONFLICT DO NOTHING"
	case SQLite:
		// OR IGNORE passes over rows that break any rule, see again. What cannot fail halfway need not be undone: SQLite
		// keeps no copy of the pages for it, which costs a tenth of the insert.
		return s.insert("INSERT OR IGNORE") + s.values(rows)
	}
	key := s.own[0].Name // changes nothing: MySQL's way to skip a conflicting row and no other error
	return s.head() + s.values(rows) + " ON DUPLICATE KEY UPDATE " + key + "=" + key
}

// strict is SQLite's statement that passes over conflicts and nothing else.
func (s shape) strict(rows int) string { return s.head() + s.values(rows) + " ON CONFLICT DO NOTHING" }

func (s shape) values(rows int) string {
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

func (s shape) unnest() string {
	var shared, own []string
	for i, c := range s.shared {
		shared = append(shared, fmt.Sprintf("$%d::%s,", i+1, c.kind()))
	}
	for i, c := range s.own {
		own = append(own, fmt.Sprintf("$%d::%s[]", len(s.shared)+i+1, c.kind()))
	}
	return " SELECT " + strings.Join(shared, "") + "r.* FROM unnest(" + strings.Join(own, ",") + ") AS r"
}
