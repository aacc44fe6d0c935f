package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
)

// fault says what an error code of a database means. Only codes that certainly concern the row become rowFault:
// databases, clusters and proxies have too many others to list.
type fault int

const (
	unknown      fault = iota // no error code
	rowFault                  // the row's own data, or a constraint that it breaks
	duplicateKey              // a unique key is taken
	tryAgain                  // rolled back in favour of another transaction
	down                      // the server, its disk, limits, schema or proxy
)

func classify(err error) fault {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return classifyPostgres(pg)
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return classifyMySQL(my)
	}
	var lite *modernc.Error
	if errors.As(err, &lite) {
		return classifySQLite(lite.Code())
	}
	if err != nil && unencodable(err) {
		return rowFault
	}
	return unknown
}

// Code returns the database's code of an error, because its text can repeat a row's values. For an error without a code
// it returns the text.
func Code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return "postgres " + pg.Code
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return fmt.Sprintf("mysql %d", my.Number)
	}
	var lite *modernc.Error
	if errors.As(err, &lite) {
		return fmt.Sprintf("sqlite %d", lite.Code())
	}
	if unencodable(err) {
		return "a value that its column cannot hold"
	}
	return err.Error()
}

// Describe returns a database's own text of an error, for operators. If the text may repeat a row's values it returns
// only the code. For an error without a code it returns the innermost error's text.
func Describe(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && classify(err) == down && !strings.HasPrefix(pg.Code, "P0") { // the text of a trigger
		return Code(err) + ": " + pg.Message
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) && classify(err) == down && !repeatsValues(my) {
		return Code(err) + ": " + my.Message
	}
	if classify(err) != unknown {
		return Code(err)
	}
	for {
		switch inner := err.(type) { //nolint:errorlint // walks the chain by itself
		case interface{ Unwrap() error }:
			if next := inner.Unwrap(); next != nil {
				err = next
				continue
			}
		case interface{ Unwrap() []error }:
			if all := inner.Unwrap(); len(all) > 0 && all[len(all)-1] != nil {
				err = all[len(all)-1]
				continue
			}
		}
		return err.Error()
	}
}

// repeatsValues reports whether an error's text may contain a piece of the statement, with our values. Such are errors
// of a parser (1064, 1149), Vitess's catch-all (1105), and a trigger's text (class 45).
func repeatsValues(err *mysql.MySQLError) bool {
	switch err.Number {
	case 1064, 1105, 1149, 1644:
		return true
	}
	return string(err.SQLState[:2]) == "45"
}

// unencodable reports whether pgx itself refused a value: a number too large for the parameter's type. The error has no
// type of its own.
func unencodable(err error) bool { return strings.Contains(err.Error(), "failed to encode args[") }

// classifyPostgres classifies by the two-character class: 22 (data) and 23 (constraints) concern the row. Our
// statements are fixed, so every other class concerns the server, its schema, its settings or a pooler.
func classifyPostgres(err *pgconn.PgError) fault {
	if err.Severity == "FATAL" || err.Severity == "PANIC" {
		return down // it ends the session, which no row can cause
	}
	switch err.Code {
	case "23505":
		return duplicateKey
	case "40001", "40P01":
		return tryAgain
	case "22023": // invalid_parameter_value: of a setting or a function's argument, and ours are fixed
		return down
	}
	if strings.HasPrefix(err.Code, "22") || strings.HasPrefix(err.Code, "23") {
		return rowFault
	}
	return down
}

// classifyMySQL classifies by SQLSTATE, as classifyPostgres does, and by number. Many errors of MySQL about a value
// have only HY000, and some proxies omit the state.
func classifyMySQL(err *mysql.MySQLError) fault {
	class := string(err.SQLState[:2])
	switch err.Number {
	case mysqlDuplicate, mysqlDuplicateNamed:
		return duplicateKey
	case 1213, 1020: // deadlock or certification conflict; row changed since it was read
		return tryAgain
	case 8002, 8022, 8028, 9007: // TiDB: write conflict, or the schema changed during the transaction
		return tryAgain
	case 1052: // ambiguous column: 23000, but a fault of the statement
		return down
	// 23000: keys, NULL
	case 1022, 1048, 1169, 1216, 1217, mysqlForeignKeyOwner, mysqlForeignKey, 1557, 1761, 1762, 1859:
		return rowFault
	case 1264, 1292, 1367, 1406, 1690: // 22xxx: out of range, not a number or time, too long
		return rowFault
	case 1265, 1300, 1366, 1411, 3988: // 01000, HY000: a value cut, no text of its character set, of another type
		return rowFault
	case mysqlCheck, mariaCheck: // HY000 and 23000: a CHECK constraint
		return rowFault
	}
	switch class {
	case "22", "23":
		return rowFault
	case "40": // rolled back, by a deadlock, a conflict between nodes or a plugin
		return tryAgain
	}
	return down
}

// classifySQLite classifies by the primary code. SQLITE_ERROR covers all errors of a statement or its schema; ours are
// fixed.
func classifySQLite(code int) fault {
	switch code {
	case sqlitePrimaryKey, sqliteUnique:
		return duplicateKey
	case 531, 1043, 2323, 2835: // constraints of a commit hook, a function, a virtual table, a pinned row: no column's
		return down
	}
	switch code & 0xff {
	case 5, 6: // BUSY, LOCKED
		return tryAgain
	case 18, 19, 20: // TOOBIG, CONSTRAINT, MISMATCH
		return rowFault
	}
	return down
}

// tooLarge reports whether a statement exceeds a limit of the server, which it would not with fewer rows.
func tooLarge(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "54")
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return my.Number == 1153 || my.Number == 1390 || my.Number == 1436
	}
	return errors.Is(err, mysql.ErrPktTooLarge)
}
