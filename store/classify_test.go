package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

func pgError(code string) error { return &pgconn.PgError{Code: code} }

func pgFatal(code, text string) error {
	return &pgconn.PgError{Severity: "FATAL", Code: code, Message: text}
}

// myError returns an error of MySQL with a number and, unless it is empty, an SQLSTATE.
func myError(number uint16, state string) error {
	e := &mysql.MySQLError{Number: number, Message: "said by nobody"}
	copy(e.SQLState[:], state)
	return e
}

// TestRefusalsOfTheStore checks that no refusal of a server, a cluster or a proxy counts as a row's fault.
func TestRefusalsOfTheStore(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"postgres too many connections":       pgError("53300"),
		"postgres disk full":                  pgError("53100"),
		"postgres shutting down":              pgError("57P01"),
		"postgres starting":                   pgError("57P03"),
		"postgres database dropped":           pgError("57P04"),
		"postgres idle session ended":         pgError("57P05"),
		"postgres statement timeout":          pgError("57014"),
		"postgres lock timeout":               pgError("55P03"),
		"postgres read-only":                  pgError("25006"),
		"postgres I/O error":                  pgError("58030"),
		"postgres index corrupted":            pgError("XX002"),
		"postgres wrong password":             pgFatal("28P01", "password authentication failed"),
		"postgres not in pg_hba.conf":         pgFatal("28000", "no pg_hba.conf entry"),
		"postgres permission":                 pgError("42501"),
		"postgres table missing":              pgError("42P01"),
		"postgres serialization":              pgError("40001"),
		"postgres ignored error":              pgError("25P02"),
		"postgres a trigger's own refusal":    pgError("P0001"),
		"postgres a view's check":             pgError("44000"),
		"postgres more than a row":            pgError("21000"),
		"postgres statement too complex":      pgError("54001"),
		"postgres setting refused":            pgError("22023"),
		"postgres fatal of a class of rows":   pgFatal("22P02", "invalid value for parameter"),
		"postgres without a code":             pgError(""),
		"pgbouncer protocol violation":        pgFatal("08P01", "server login has been failing, try again later"),
		"pgbouncer no more connections":       pgFatal("08P01", "no more connections allowed (max_client_conn)"),
		"pgbouncer query_wait_timeout":        pgFatal("", "query_wait_timeout"),
		"pgbouncer prepared statement gone":   pgError("26000"),
		"pgbouncer prepared statement double": pgError("42P05"),
		"cockroach unavailable range":         pgError("XXUUU"),
		"commit that rolled back":             pgx.ErrTxCommitRollback,
		"unknown certificate":                 fmt.Errorf("connect: %w", x509.UnknownAuthorityError{}),
		"mysql too many connections":          myError(1040, "08004"),
		"mysql table full":                    myError(1114, "HY000"),
		"mysql disk full":                     myError(3, "HY000"),
		"mysql cannot open file":              myError(1016, "HY000"),
		"mysql table read-only":               myError(1036, "HY000"),
		"mysql host not allowed":              myError(1130, "HY000"),
		"mysql shutting down":                 myError(1053, "08S01"),
		"mysql read-only":                     myError(1290, "HY000"),
		"mysql read-only transaction":         myError(1792, "25006"),
		"mysql read-only mode":                myError(1836, "HY000"),
		"mysql wrong password":                myError(1045, "28000"),
		"mysql password expired":              myError(1862, "HY000"),
		"mysql must change password":          myError(1820, "HY000"),
		"mysql account locked":                myError(3118, "HY000"),
		"mariadb account locked":              myError(4151, "HY000"),
		"mysql transport not secure":          myError(3159, "HY000"),
		"mysql table not allowed":             myError(1142, "42000"),
		"mysql lock wait":                     myError(1205, "HY000"),
		"mysql statement time":                myError(1969, "70100"),
		"mysql packet too large":              myError(1153, "08S01"),
		"mysql binary log impossible":         myError(1598, "HY000"),
		"mysql statement binary log":          myError(1665, "HY000"),
		"mysql GTID consistency":              myError(1785, "HY000"),
		"mysql column without a default":      myError(1364, "HY000"),
		"mysql column ambiguous":              myError(1052, "23000"),
		"mysql no partition":                  myError(1526, "HY000"),
		"mysql a trigger's own refusal":       myError(1644, "45000"),
		"mysql an engine's own error":         myError(1296, "HY000"),
		"group replication refuses":           myError(3100, "HY000"),
		"group replication rolls back":        myError(3101, "40000"),
		"galera not ready":                    myError(1047, "08S01"),
		"galera conflict":                     myError(1213, "40001"),
		"vitess":                              myError(1105, "HY000"),
		"maxscale no server":                  myError(1815, "HY000"),
		"maxscale no connection":              myError(2003, "HY000"),
		"proxysql hostgroup timeout":          myError(9001, "HY000"),
		"proxysql gone":                       myError(9002, "HY000"),
		"proxysql refuses":                    myError(9005, "HY000"),
		"proxysql without a state":            myError(9006, ""),
		"tidb too old a transaction":          myError(8002, "HY000"),
		"tidb try again":                      myError(8022, "HY000"),
		"tidb schema changed":                 myError(8028, "HY000"),
		"tidb server busy":                    myError(9003, "HY000"),
		"tidb write conflict":                 myError(9007, "HY000"),
		"a number nobody knows":               myError(65000, ""),
		"wrapped":                             fmt.Errorf("fulfil: %w", myError(1213, "")),
	} {
		require.True(t, Unavailable(err), name)
		require.False(t, RowFault(err), name)
		require.False(t, Duplicate(err), name)
	}
}

// TestFaultsOfTheRow checks the errors that certainly concern the row.
func TestFaultsOfTheRow(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"postgres number out of range": pgError("22003"),
		"postgres not UTF-8":           pgError("22021"),
		"postgres too long":            pgError("22001"),
		"postgres not null":            pgError("23502"),
		"postgres check":               pgError("23514"),
		"postgres foreign key":         pgError("23503"),
		"postgres exclusion":           pgError("23P01"),
		"pgx cannot encode": errors.New("failed to encode args[4]: unable to encode 1 into binary " +
			"format for int4"),
		"mysql number out of range":      myError(1264, "22003"),
		"mysql without a state":          myError(1264, ""),
		"mysql too long":                 myError(1406, "22001"),
		"mysql cut":                      myError(1265, "01000"),
		"mysql not text of the set":      myError(1366, "HY000"),
		"mariadb not text of the set":    myError(1366, "22007"),
		"mysql invalid character string": myError(1300, "HY000"),
		"mysql check":                    myError(3819, "HY000"),
		"mariadb check":                  myError(4025, "23000"),
		"mysql null":                     myError(1048, "23000"),
		"mysql foreign key":              myError(1452, "23000"),
		"mysql JSON":                     myError(3140, "22032"),
	} {
		require.False(t, Unavailable(err), name)
		require.True(t, RowFault(err), name)
		require.False(t, Duplicate(err), name)
	}
	for name, err := range map[string]error{
		"postgres": pgError("23505"), "mysql": myError(1062, "23000"), "mysql without a state": myError(1062, ""),
		"mysql with the key's name": myError(1586, "23000"), "gorm": gorm.ErrDuplicatedKey,
	} {
		require.False(t, Unavailable(err), name)
		require.True(t, RowFault(err), name)
		require.True(t, Duplicate(err), name)
	}
}

func TestClassifySQLiteByCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]fault{
		1: down, 2: down, 3: down, 5: tryAgain, 261: tryAgain, 6: tryAgain, 8: down, 10: down, 11: down, 13: down,
		14: down,
		18: rowFault, 19: rowFault, 20: rowFault, 21: down, 25: down, 26: down,
		sqliteCheck: rowFault, sqliteForeignKey: rowFault, 1299: rowFault, 3091: rowFault,
		sqlitePrimaryKey: duplicateKey, sqliteUnique: duplicateKey, 531: down, 2323: down,
	} {
		require.Equal(t, want, classifySQLite(code), code)
	}
}

// TestErrorsOfNoDatabase checks that an error of no database is neither Unavailable nor a RowFault.
func TestErrorsOfNoDatabase(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("a rule of ours"), gorm.ErrRecordNotFound} {
		require.False(t, Unavailable(err), "%v", err)
		require.False(t, RowFault(err), "%v", err)
	}
}

func TestCodesHoldNoValues(t *testing.T) {
	t.Parallel()
	require.Equal(t, "mysql 1366", Code(fmt.Errorf("x: %w", &mysql.MySQLError{Number: 1366,
		Message: "ann@example.com"})))
	require.Equal(t, "postgres 22001", Code(&pgconn.PgError{Code: "22001", Detail: "ann@example.com"}))
	require.NotContains(t, Code(errors.New("failed to encode args[0]: unable to encode ann@example.com")), "@example")
}

func TestDescriptionsHoldNoValues(t *testing.T) {
	t.Parallel()
	say := func(number uint16, text string) error {
		return fmt.Errorf("fulfil: %w", &mysql.MySQLError{Number: number, Message: text})
	}
	require.Equal(t, "mysql 1665: no format", Describe(say(1665, "no format")))
	require.Equal(t, "mysql 1366", Describe(say(1366, "ann")))
	require.Equal(t, "mysql 1062", Describe(say(1062, "ann")))
	require.Equal(t, "mysql 1105", Describe(say(1105, "insert into orders values (ann)")))
	for _, number := range []uint16{1064, 1149, 1644} {
		require.Equal(t, fmt.Sprintf("mysql %d", number), Describe(say(number, "near 'ann@shop.test'")))
	}
	ownWords := &mysql.MySQLError{Number: 30001, SQLState: [5]byte{'4', '5', '0', '0', '0'},
		Message: "ann is not wanted"}
	require.Equal(t, "mysql 30001", Describe(ownWords))
	require.Equal(t, "postgres P0001", Describe(&pgconn.PgError{Code: "P0001", Message: "ann is not wanted"}))
	require.Equal(t, "postgres 53100: disk full", Describe(&pgconn.PgError{Code: "53100", Message: "disk full"}))
	require.Equal(t, "context deadline exceeded", Describe(fmt.Errorf("a: %w",
		errors.Join(errors.New("b"), context.DeadlineExceeded))))
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	for _, err := range []error{myError(1153, "08S01"), mysql.ErrPktTooLarge, pgError("54001")} {
		require.True(t, TooLarge(err), "%v", err)
		require.True(t, Unavailable(err), "for a single row it is the server's limit")
	}
	for _, err := range []error{nil, myError(1406, "22001"), errors.New("x")} {
		require.False(t, TooLarge(err))
	}
}

// TestRetiredSessions checks that one refusal retires the sessions that are open then, at most once in retireEvery.
func TestRetiredSessions(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000)
	s := newSessions(func() time.Time { return now })
	require.False(t, s.retired(now), "nothing was refused yet")
	old := now
	now = now.Add(time.Hour)
	s.retire()
	require.True(t, s.retired(old))
	require.False(t, s.retired(now), "began afterwards")
	next := now
	now = now.Add(retireEvery / 2)
	s.retire()
	require.False(t, s.retired(next), "a standing refusal does not open all connections anew each time")
	now = now.Add(retireEvery)
	s.retire()
	require.True(t, s.retired(next))
}

func TestSpentSessions(t *testing.T) {
	t.Parallel()
	for _, err := range []error{myError(1665, ""), myError(1290, ""), myError(1142, ""), myError(1862, ""),
		myError(1047, ""),
		myError(3100, ""), pgError("25006"), pgError("57P01"), pgError("28000"),
		fmt.Errorf("x: %w", myError(1836, ""))} {
		require.True(t, sessionSpent(err), "%v", err)
	}
	for _, err := range []error{nil, errors.New("x"), myError(1062, ""), myError(1205, ""), myError(1213, ""),
		myError(1406, ""),
		pgError("57014"), pgError("40001"), pgError("23505"), pgError("55P03")} {
		require.False(t, sessionSpent(err), "%v", err)
	}
}
