package rewrite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/rewrite"
)

// rewritten is a table thing (id) behind a rewriting proxy, seen through the
// proxy and past it.
type rewritten struct {
	proxy             *testkit.Proxy
	through, straight *sql.DB
	insert            string
}

// Drivers send a statement's values with it or prepare it first: both ways count.
var ways = []struct{ name, driver, options, insert string }{
	{"mysql, one text", "mysql", "?interpolateParams=true", "INSERT INTO thing VALUES (?)"},
	{"mysql, prepared", "mysql", "", "INSERT INTO thing VALUES (?)"},
	{"postgres, prepared", "postgres", "", "INSERT INTO thing VALUES ($1)"},
	{"postgres, unnamed", "postgres", "&default_query_exec_mode=exec", "INSERT INTO thing VALUES ($1)"},
	{"postgres, one text", "postgres", "&default_query_exec_mode=simple_protocol", "INSERT INTO thing VALUES ($1)"},
}

func eachWay(t *testing.T, test func(t *testing.T, r rewritten, code string)) {
	t.Helper()
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			d := testkit.NewDatabase(t, way.driver)
			r := rewritten{straight: open(t, d), insert: way.insert}
			var dsn string
			r.proxy, dsn = testkit.Rewritten(t, d)
			r.through = open(t, testkit.Database{Driver: way.driver, DSN: dsn + way.options})
			run(t, r.straight, "CREATE TABLE thing (id INT PRIMARY KEY)")
			test(t, r, map[string]string{"mysql": "9001", "postgres": "08P01"}[way.driver])
		})
	}
}

// count is how many things there are for everybody to see.
func (r rewritten) count(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, r.straight.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM thing").Scan(&n))
	return n
}

// add writes one thing in a transaction of its own.
func (r rewritten) add(t *testing.T, id int) error {
	t.Helper()
	tx, err := r.through.BeginTx(t.Context(), nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(t.Context(), r.insert, id); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// codeOf is the number or the SQLSTATE of a database's error, and its text.
func codeOf(err error) (code, text string) {
	var my *mysql.MySQLError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &my):
		return fmt.Sprint(my.Number), my.Message
	case errors.As(err, &pg):
		return pg.Code, pg.Message
	}
	return "", ""
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	got, text := codeOf(err)
	require.Equal(t, code, got, "%v", err)
	require.Equal(t, "no such luck", text)
}

func TestARewritingProxyRefusesEachKindOfCommand(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, r rewritten, code string) {
		require.NoError(t, r.add(t, 1), "nothing is refused at first")
		for i, kind := range []string{rewrite.OnBegin, rewrite.OnWrite, rewrite.OnCommit, rewrite.OnAny} {
			r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: kind, Times: 2})
			requireCode(t, code, r.add(t, 2))
			requireCode(t, code, r.add(t, 2))
			require.NoError(t, r.add(t, 3+i), "after %s, twice", kind)
			require.Equal(t, 2+i, r.count(t), "nothing of what was refused at %s is there", kind)
		}
		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnRead})
		var n int
		for range 3 {
			requireCode(t, code, r.through.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM thing").Scan(&n))
		}
		require.NoError(t, r.add(t, 20), "what is no read passes")
		r.proxy.Clear()
		require.NoError(t, r.through.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM thing").Scan(&n))
		require.Equal(t, 6, n)
		require.Equal(t, 11, r.proxy.Refused())
	})
}

func TestARewritingProxyLiesAboutWhatWasDone(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, r rewritten, code string) {
		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnCommit, Times: 1, Lies: true})
		requireCode(t, code, r.add(t, 1))
		require.Equal(t, 1, r.count(t), "it was kept all the same")

		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnWrite, Times: 1, Lies: true})
		_, err := r.through.ExecContext(t.Context(), r.insert, 2)
		requireCode(t, code, err)
		require.Equal(t, 2, r.count(t), "a write outside of a transaction is kept, too")
		require.NoError(t, r.add(t, 3), "the connection works on")
	})
}

func TestARewritingProxyRefusesLoginsAndHangsUp(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, r rewritten, code string) {
		require.NoError(t, r.add(t, 1))
		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnWrite, Times: 1, HangUp: true})
		err := r.add(t, 2)
		requireCode(t, code, err)
		r.through.SetMaxIdleConns(0) // so that the next one has to log in

		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnConnect})
		requireCode(t, code, r.add(t, 2))
		r.proxy.Clear()
		require.NoError(t, r.add(t, 2))
		require.Equal(t, 2, r.count(t))
	})
}

func TestARewritingProxyPassesErrorsAndLargeAnswers(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, r rewritten, code string) {
		for i := range 400 { // more packets than MySQL counts before it begins anew
			require.NoError(t, r.add(t, i))
		}
		require.Error(t, r.add(t, 1), "the database's own error")
		r.proxy.Refuse(rewrite.Refusal{Code: code, Text: "no such luck", On: rewrite.OnWrite, Times: 1})
		rows, err := r.through.QueryContext(t.Context(), "SELECT id FROM thing ORDER BY id")
		require.NoError(t, err)
		defer rows.Close()
		seen := 0
		for ; rows.Next(); seen++ {
			var id int
			require.NoError(t, rows.Scan(&id))
			require.Equal(t, seen, id)
		}
		require.NoError(t, rows.Err())
		require.Equal(t, 400, seen)
	})
}

func open(t *testing.T, d testkit.Database) *sql.DB {
	t.Helper()
	db, err := sql.Open(map[string]string{"mysql": "mysql", "postgres": "pgx"}[d.Driver], d.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func run(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	require.NoError(t, err, statement)
}
