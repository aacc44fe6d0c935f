package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
)

// stores are the Redis and the database of one system, and our own way into them.
type stores struct {
	redis    *servers.Server // nil when it is a group
	group    redisGroup      // nil when it is one server
	database testkit.Database
	server   *servers.Server // of the database, when a fault may kill it; else nil
	standby  *standby        // of that server, when a fault promotes it; else nil

	client redis.UniversalClient
	sql    *sql.DB

	redisFault, dbFault sync.Mutex // held by the fault that has the server
}

// openStores starts a Redis of the run's own and opens both stores. The
// database is made by the caller.
func openStores(t testing.TB, database testkit.Database, server *servers.Server) *stores {
	t.Helper()
	return openStoresOn(t, onSingle, database, server)
}

// openSQL opens the test's own connection to the database.
func (s *stores) openSQL(t testing.TB) {
	t.Helper()
	name, dsn := s.database.Driver, s.database.DSN
	switch name {
	case "postgres":
		name = "pgx"
	case "sqlite":
		dsn = "file:" + dsn + "?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(name, dsn)
	require.NoError(t, err)
	s.sql = db
	s.sql.SetMaxOpenConns(2)
	t.Cleanup(func() { require.NoError(t, s.sql.Close()) })
}

// upstream returns the host:port of the database server.
func (s *stores) upstream() string {
	if s.database.Driver == "mysql" {
		config, err := mysql.ParseDSN(s.database.DSN)
		if err != nil {
			return ""
		}
		return config.Addr
	}
	address, err := url.Parse(s.database.DSN)
	if err != nil {
		return ""
	}
	return address.Host
}

// through returns the database's address through a proxy.
func (s *stores) through(proxy string) string {
	return strings.Replace(s.database.DSN, s.upstream(), proxy, 1)
}

// orderRow is what the database holds of an order.
type orderRow struct {
	ID, User, Status, Reason, Email string
	Quantity                        int
	Live                            bool
	AdmittedAt                      int64
}

func (s *stores) orders(ctx context.Context, sale string) (map[string]orderRow, error) {
	rows, err := s.sql.QueryContext(ctx,
		"SELECT id, user_id, status, reason, email, quantity, slot, admitted_at FROM orders WHERE sale_id = '"+sale+"'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[string]orderRow{}
	for rows.Next() {
		var r orderRow
		var slot sql.NullInt64
		if err := rows.Scan(&r.ID, &r.User, &r.Status, &r.Reason, &r.Email, &r.Quantity, &slot,
			&r.AdmittedAt); err != nil {
			return nil, err
		}
		r.Live = slot.Valid
		found[r.ID] = r
	}
	return found, rows.Err()
}

func (s *stores) stock(ctx context.Context, sale string) (total, available int, err error) {
	err = s.sql.QueryRowContext(ctx, "SELECT total, available FROM stock WHERE sale_id = '"+sale+"'").
		Scan(&total, &available)
	return total, available, err
}

// count returns the one number that a query answers with.
func (s *stores) count(ctx context.Context, query string) (n int, err error) {
	err = s.sql.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

func key(sale, name string) string { return "sluice:{" + sale + "/0}:" + name }

// leased counts what workers hold of a sale: leases and leased batches.
func (s *stores) leased(ctx context.Context, sale string) (int64, error) {
	leases, err := s.client.ZCard(ctx, key(sale, "lease")).Result()
	if err != nil {
		return 0, err
	}
	batches, err := s.client.HLen(ctx, key(sale, "leased")).Result()
	return leases + batches, err
}

// busy says what still keeps a sale from being settled; empty is quiet.
func (s *stores) busy(ctx context.Context, sale string) (string, error) {
	pipe := s.client.Pipeline()
	gate := pipe.HExists(ctx, key(sale, "meta"), "gate")
	there := pipe.Exists(ctx, key(sale, "meta"))
	lengths := map[string]*redis.IntCmd{
		"wait": pipe.LLen(ctx, key(sale, "wait")), "suspect": pipe.LLen(ctx, key(sale, "suspect")),
		"lease": pipe.ZCard(ctx, key(sale, "lease")), "leased": pipe.HLen(ctx,
			key(sale, "leased")), "retry": pipe.ZCard(ctx, key(sale, "retry")),
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return "", fmt.Errorf("look at the line: %w", err)
	}
	var left []string
	for name, n := range lengths {
		if n.Val() > 0 {
			left = append(left, fmt.Sprintf("%s holds %d", name, n.Val()))
		}
	}
	if gate.Val() || there.Val() == 0 {
		left = append(left, "the line is not rebuilt")
	}
	for name, query := range map[string]string{
		"undelivered outbox rows": "SELECT COUNT(*) FROM outbox WHERE state = 0",
		"unreleased orders":       "SELECT COUNT(*) FROM orders WHERE released = 0",
	} {
		n, err := s.count(ctx, query)
		if err != nil {
			return "", fmt.Errorf("count %s: %w", name, err)
		}
		if n > 0 {
			left = append(left, fmt.Sprintf("%d %s", n, name))
		}
	}
	return strings.Join(left, ", "), nil
}

// unpaid says how many orders still have a payment deadline; empty is none.
func (s *stores) unpaid(ctx context.Context, sale string) string {
	n, err := s.count(ctx, "SELECT COUNT(*) FROM orders WHERE status = 'confirmed'")
	due := s.client.ZCard(ctx, key(sale, "due"))
	if err != nil || due.Err() != nil || n > 0 || due.Val() > 0 {
		return fmt.Sprintf("%d orders are unpaid, %d have a deadline (%v, %v)", n, due.Val(), err, due.Err())
	}
	return ""
}

// events returns the orders whose event is in the stream, as "event order".
func (s *stores) events(ctx context.Context) (map[string]int, error) {
	entries, err := s.client.XRange(ctx, "sluice:events", "-", "+").Result()
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, e := range entries {
		found[fmt.Sprint(e.Values["event"], " ", e.Values["order"])]++
	}
	return found, nil
}

// files returns the folder of Redis' append-only file.
func (s *stores) files() string { return filepath.Join(s.redis.Dir(), "appendonlydir") }

// keepFiles copies what Redis has on disk now, to come back to it later.
func (s *stores) keepFiles() (string, error) {
	kept := filepath.Join(s.redis.Dir(), fmt.Sprintf("kept-%d", time.Now().UnixNano()))
	return kept, os.CopyFS(kept, os.DirFS(s.files()))
}

// replaceFiles gives a Redis that is down other files; "" is none at all.
func (s *stores) replaceFiles(kept string) error {
	if err := os.RemoveAll(s.files()); err != nil || kept == "" {
		return err
	}
	return os.Rename(kept, s.files())
}
