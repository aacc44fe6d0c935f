package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

// Field is one column of a bulk insert, with the function that gives a row's text or number for it.
type Field[T any] struct {
	Name string
	Text func(*T) string
	Int  func(*T) int64
	Null bool // the number 0 stands for NULL
}

func (f *Field[T]) value(row *T) any {
	if f.Text != nil {
		return f.Text(row)
	}
	n := f.Int(row)
	if f.Null && n == 0 {
		return nil
	}
	return n
}

// array returns the field's values of all rows, in the form of PostgreSQL's driver.
func (f *Field[T]) array(rows []T) any {
	if f.Text != nil {
		return valuesOf(rows, f.Text)
	}
	if f.Null {
		return nullable(valuesOf(rows, f.Int))
	}
	return valuesOf(rows, f.Int)
}

func valuesOf[T, V any](rows []T, value func(*T) V) []V {
	values := make([]V, len(rows))
	for i := range rows {
		values[i] = value(&rows[i])
	}
	return values
}

func nullable(numbers []int64) []*int64 {
	pointers := make([]*int64, len(numbers))
	for i := range numbers {
		if numbers[i] != 0 {
			pointers[i] = &numbers[i]
		}
	}
	return pointers
}

// Layout says which columns a bulk insert fills. All others get their defaults.
type Layout[T any] struct {
	Table  string
	Shared []Field[T] // equal in all rows of one call: sent once if the database allows it
	Own    []Field[T]
}

// Bulk inserts many rows into one table, with prepared statements. Safe for concurrent use.
type Bulk[T any] struct {
	db        *DB
	layout    Layout[T]
	statement bulkSQL
	steps     []int // rows of its prepared statements, the largest first
	mu        sync.Mutex
	prepared  map[int]*sql.Stmt // by rows
}

// bulkRows is how many rows one statement has, except on SQLite.
const bulkRows = 250

// NewBulk returns a Bulk for rows with this layout.
func NewBulk[T any](db *DB, layout Layout[T]) *Bulk[T] {
	b := &Bulk[T]{db: db, layout: layout, prepared: map[int]*sql.Stmt{}}
	b.statement = bulkSQL{driver: db.Driver, table: layout.Table, shared: columnsOf(layout.Shared),
		own: columnsOf(layout.Own)}
	// On SQLite a call is cheap and compiling is not, so any number of rows is split into prepared steps. Over a
	// network each call is a round trip: full pieces are prepared, and the rest is one unprepared statement.
	switch db.Driver {
	case SQLite:
		b.steps = slices.DeleteFunc([]int{2048, 256, 32, 4, 1}, func(rows int) bool {
			return len(layout.Shared)+rows*len(layout.Own) > sqliteParams
		})
	case MySQL:
		b.steps = []int{bulkRows}
	}
	return b
}

// Prepare prepares the statements, which makes Insert faster. Call it outside of a transaction. After a success,
// further calls return at once.
func (b *Bulk[T]) Prepare(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rows := range b.steps {
		if b.prepared[rows] != nil {
			continue
		}
		stmt, err := b.db.Pool().PrepareContext(ctx, b.statement.text(rows))
		if err != nil {
			return fmt.Errorf("prepare the insert into %s: %w", b.layout.Table, err)
		}
		b.prepared[rows] = stmt
	}
	return nil
}

// Insert adds rows within tx, a transaction of the same database, and returns how many it added. It skips each row that
// conflicts with an existing one on a unique key.
func (b *Bulk[T]) Insert(tx *gorm.DB, rows []T) (inserted int64, err error) {
	if len(rows) == 0 {
		return 0, nil
	}
	if b.db.Driver == Postgres {
		return b.run(tx, nil, func() string { return b.statement.text(0) }, b.arrays(rows))
	}
	for len(rows) > 0 {
		n, stmt := b.step(len(rows))
		args := b.flat(rows[:n])
		done, err := b.run(tx, stmt, func() string { return b.statement.text(n) }, args)
		if err == nil && done < int64(n) && b.db.Driver == SQLite {
			done, err = b.insertIgnored(tx, n, args, done)
		}
		if err != nil {
			return inserted, err
		}
		inserted, rows = inserted+done, rows[n:]
	}
	return inserted, nil
}

// insertIgnored repeats an insert of which SQLite has ignored some rows, now skipping conflicts only. It returns the
// error of a row that breaks another rule of the table.
func (b *Bulk[T]) insertIgnored(tx *gorm.DB, rows int, args []any, inserted int64) (int64, error) {
	more, err := b.run(tx, nil, func() string { return b.statement.strict(rows) }, args)
	return inserted + more, err
}

// step returns the largest prepared statement for at most left rows, or nil and the rows of one unprepared statement.
func (b *Bulk[T]) step(left int) (rows int, stmt *sql.Stmt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.steps {
		if n <= left && b.prepared[n] != nil {
			return n, b.prepared[n]
		}
	}
	return min(left, bulkRows), nil
}

// run executes one statement on the transaction's connection: stmt, or text if that is nil.
func (b *Bulk[T]) run(tx *gorm.DB, stmt *sql.Stmt, text func() string, args []any) (inserted int64, err error) {
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

// flat returns the arguments row by row. If parameters are numbered, shared values come once, before all rows.
func (b *Bulk[T]) flat(rows []T) []any {
	common := sharedValues(b.layout, &rows[0])
	args := make([]any, 0, len(common)+len(rows)*(len(common)+len(b.layout.Own)))
	if b.db.Driver == SQLite {
		args, common = append(args, common...), nil
	}
	for i := range rows {
		args = append(args, common...)
		for f := range b.layout.Own {
			args = append(args, b.layout.Own[f].value(&rows[i]))
		}
	}
	return args
}

// arrays returns the arguments column by column, each as one array.
func (b *Bulk[T]) arrays(rows []T) []any {
	args := sharedValues(b.layout, &rows[0])
	for f := range b.layout.Own {
		args = append(args, b.layout.Own[f].array(rows))
	}
	return args
}

func sharedValues[T any](layout Layout[T], first *T) []any {
	values := make([]any, len(layout.Shared))
	for f := range layout.Shared {
		values[f] = layout.Shared[f].value(first)
	}
	return values
}
