package store

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// Bulk inserts many rows of one of GORM's models with few statements, which
// every connection prepares once: the text of a statement with hundreds of rows costs the database
// more to read than the rows to store. Safe for concurrent use.
type Bulk[T any] struct {
	db    *DB
	mu    sync.Mutex
	ready atomic.Pointer[bulkPlan] // nil until the statements are prepared
}

// bulkPlan is a model's columns and the statements for them, the largest first.
type bulkPlan struct {
	table      string
	fields     []*schema.Field
	statements []bulkStatement
}

type bulkStatement struct {
	rows int
	stmt *sql.Stmt
}

// bulkSizes are the rows of prepared statements; what is left over below the
// last goes into one that is not prepared.
var bulkSizes = [...]int{1000, 200, 50}

// NewBulk returns an inserter for the table of T, a struct that GORM can map.
// T's keys are its own: nothing is read back from the database.
func NewBulk[T any](db *DB) *Bulk[T] { return &Bulk[T]{db: db} }

// Ready prepares the statements where that has not been done. Call it before
// the transaction begins: a pool of one connection has none to spare within.
func (b *Bulk[T]) Ready(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ready.Load() != nil {
		return nil
	}
	model, err := schema.Parse(new(T), &sync.Map{}, b.db.Write.NamingStrategy)
	if err != nil {
		return fmt.Errorf("map %T to a table: %w", *new(T), err)
	}
	plan := &bulkPlan{table: model.Table, fields: slices.DeleteFunc(slices.Clone(model.Fields), func(f *schema.Field) bool { return f.DBName == "" })}
	for _, rows := range bulkSizes {
		if rows*len(plan.fields) > b.db.params() {
			continue
		}
		stmt, err := b.db.Pool().PrepareContext(ctx, plan.text(b.db.Driver, rows))
		if err != nil {
			return fmt.Errorf("prepare an insert of %d rows into %s: %w", rows, plan.table, err)
		}
		plan.statements = append(plan.statements, bulkStatement{rows, stmt})
	}
	b.ready.Store(plan)
	return nil
}

// Insert adds rows within tx, which must be a transaction, and skips each that
// conflicts on any unique key with one already there. It returns how many were inserted.
func (b *Bulk[T]) Insert(tx *gorm.DB, rows []T) (inserted int64, err error) {
	pool, ok := tx.Statement.ConnPool.(gorm.Tx)
	if !ok {
		return 0, fmt.Errorf("bulk insert of %T outside a transaction", *new(T))
	}
	if plan := b.ready.Load(); plan != nil {
		for _, s := range plan.statements {
			for ; len(rows) >= s.rows; rows = rows[s.rows:] {
				n, err := plan.insert(tx.Statement.Context, pool, s, reflect.ValueOf(rows[:s.rows]))
				if err != nil {
					return inserted, err
				}
				inserted += n
			}
		}
	}
	if len(rows) > 0 {
		done := InsertIgnore(tx).Create(&rows)
		inserted, err = inserted+done.RowsAffected, done.Error
	}
	return inserted, err
}

func (p *bulkPlan) insert(ctx context.Context, tx gorm.Tx, s bulkStatement, rows reflect.Value) (int64, error) {
	args := make([]any, 0, s.rows*len(p.fields))
	for i := range s.rows {
		for _, field := range p.fields {
			value, _ := field.ValueOf(ctx, rows.Index(i))
			args = append(args, value)
		}
	}
	done, err := tx.StmtContext(ctx, s.stmt).ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// text says in each dialect what InsertIgnore says.
func (p *bulkPlan) text(driver string, rows int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "INSERT INTO %s (", p.table)
	for i, field := range p.fields {
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteString(field.DBName)
	}
	s.WriteString(") VALUES ")
	for n := range rows * len(p.fields) {
		switch {
		case n == 0:
			s.WriteByte('(')
		case n%len(p.fields) == 0:
			s.WriteString("),(")
		default:
			s.WriteByte(',')
		}
		if driver == Postgres {
			s.WriteString("$" + strconv.Itoa(n+1))
		} else {
			s.WriteByte('?')
		}
	}
	s.WriteByte(')')
	if driver == MySQL {
		key := p.fields[0].DBName
		fmt.Fprintf(&s, " ON DUPLICATE KEY UPDATE %s = %s", key, key)
	} else {
		s.WriteString(" ON CONFLICT DO NOTHING")
	}
	return s.String()
}
