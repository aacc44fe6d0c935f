package yardstick

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// Job says which orders to insert into Sluice's tables, and how.
type Job struct {
	Driver, DSN string // as in Sluice's configuration
	Orders      int
	Batch       int    // orders in one transaction; above mostRows a multiple of it
	Workers     int    // transactions at the same time; SQLite has one writer
	Ready       func() // called when the clock starts
}

const (
	sale         = "yardstick"
	orderColumns = "id, sale_id, user_id, slot, quantity, price_cents, currency, status, reason, email, phone, seq, " +
		"epoch, batch_id, " +
		"fingerprint, position, eta_seconds, released, admitted_at, confirmed_at, ended_at, pay_by, paid_at, " +
		"late_seq, locale"
	outboxColumns = "order_id, event, channel, sale_id, user_id, state, attempts, next_at, lease, leased_until, " +
		"last_error, created_at, delivered_at"
)

// mostRows bounds the rows of one INSERT, because databases bound its parameters, SQLite at 32,766. Larger batches have
// several INSERTs in their transaction.
const mostRows = 1000

func (j Job) rows() int { return min(j.Batch, mostRows) }

// Insert does the job with hand-written statements and returns its time. Each batch is one transaction that inserts
// orders and outbox rows. It updates the stock row last, so that its lock is short. When the clock starts, all rows are
// built, all connections open and all statements prepared.
func (j Job) Insert(ctx context.Context) (Spent, error) {
	db, err := j.open(ctx)
	if err != nil {
		return Spent{}, err
	}
	defer db.Close()
	w, err := j.prepare(ctx, db)
	if err != nil {
		return Spent{}, err
	}
	if err := w.warm(ctx, j.Workers); err != nil {
		return Spent{}, err
	}
	batches := j.batches()
	var next atomic.Int64
	var workers sync.WaitGroup
	errs := make(chan error, j.Workers)
	running := j.start()
	for range j.Workers {
		workers.Go(func() {
			for at := int(next.Add(1)) - 1; at < len(batches); at = int(next.Add(1)) - 1 {
				if err := w.write(ctx, batches[at]); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	spent := running.stop()
	close(errs)
	return spent, <-errs
}

// open connects as Sluice does and inserts the sale.
func (j Job) open(ctx context.Context) (*sql.DB, error) {
	driver, dsn := j.Driver, j.DSN
	switch driver {
	case "postgres":
		driver = "pgx"
	case "sqlite":
		dsn = "file:" + dsn +
			"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&" +
			"_pragma=foreign_keys(1)&_pragma=cache_size(-65536)&_pragma=temp_store(MEMORY)&" +
			"_pragma=wal_autocheckpoint(10000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(j.Workers)
	db.SetMaxIdleConns(j.Workers)
	now := time.Now().UnixMilli()
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO sales (id, title, sku, price_cents, currency, per_user_limit,
				cap, state, starts_at, ends_at, epoch, created_at, updated_at)
			VALUES ('%s', 'Yardstick', 'BENCH', 9900, 'CNY', 1, 10000000, 'open', %d, %d, 1, %d, %d)`,
			sale, now, now+86_400_000, now, now),
		fmt.Sprintf("INSERT INTO stock (sale_id, total, available) VALUES ('%s', 100000000, 100000000)", sale),
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			_ = db.Close()
			return nil, fmt.Errorf("set up the yardstick's sale: %w", err)
		}
	}
	return db, nil
}

// writer has the prepared statements of full batches.
type writer struct {
	db                    *sql.DB
	orders, outbox, stock *sql.Stmt
}

func (j Job) prepare(ctx context.Context, db *sql.DB) (w writer, err error) {
	w.db = db
	if w.orders, err = db.PrepareContext(ctx, j.multiRow("orders", orderColumns)); err != nil {
		return w, err
	}
	if w.outbox, err = db.PrepareContext(ctx, j.multiRow("outbox", outboxColumns)); err != nil {
		return w, err
	}
	update := "UPDATE stock SET available = available - ? WHERE sale_id = ? AND available >= ?"
	if j.Driver == "postgres" {
		update = "UPDATE stock SET available = available - $1 WHERE sale_id = $2 AND available >= $3"
	}
	w.stock, err = db.PrepareContext(ctx, update)
	return w, err
}

// warm opens all connections and prepares all statements on each.
func (w writer) warm(ctx context.Context, connections int) error {
	held := make([]*sql.Tx, 0, connections)
	for range connections {
		tx, err := w.db.BeginTx(ctx, &sql.TxOptions{})
		if err != nil {
			return fmt.Errorf("open the yardstick's connections: %w", err)
		}
		defer tx.Rollback()
		held = append(held, tx)
	}
	for _, tx := range held {
		for _, statement := range []*sql.Stmt{w.orders, w.outbox, w.stock} {
			if err := tx.StmtContext(ctx, statement).Close(); err != nil {
				return fmt.Errorf("prepare the yardstick's statements: %w", err)
			}
		}
	}
	return nil
}

// multiRow returns an INSERT of as many rows as one statement takes.
func (j Job) multiRow(table, columns string) string {
	width := strings.Count(columns, ",") + 1
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES ", table, columns)
	for n := range j.rows() * width {
		switch {
		case n > 0 && n%width == 0:
			b.WriteString("),(")
		case n > 0:
			b.WriteByte(',')
		default:
			b.WriteByte('(')
		}
		if j.Driver == "postgres" {
			fmt.Fprintf(&b, "$%d", n+1)
		} else {
			b.WriteByte('?')
		}
	}
	b.WriteByte(')')
	return b.String()
}

// write inserts one batch in one transaction.
func (w writer) write(ctx context.Context, b batch) error {
	tx, err := w.db.BeginTx(ctx, &sql.TxOptions{})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	orders, outbox := tx.StmtContext(ctx, w.orders), tx.StmtContext(ctx, w.outbox)
	for i := range b.orders {
		if _, err := orders.ExecContext(ctx, b.orders[i]...); err != nil {
			return err
		}
		if _, err := outbox.ExecContext(ctx, b.outbox[i]...); err != nil {
			return err
		}
	}
	done, err := tx.StmtContext(ctx, w.stock).ExecContext(ctx, b.size, sale, b.size)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("stock not taken: %d rows, %w", n, err)
	}
	return tx.Commit()
}
