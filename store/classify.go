package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
)

// verdict is what a database's own error code says about whose fault it was. Only what is provably the row's is called
// so: the database, its cluster and the proxies before it have more codes than anybody could list.
type verdict int

const (
	unknown      verdict = iota // not an error with a code
	rowFault                    // the row's own data, or a constraint that it breaks
	duplicateKey                // a unique key is taken
	tryAgain                    // rolled back in favour of another transaction
	down                        // the server, its disk, its limits, its schema, its proxy
)

func judge(err error) verdict {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return judgePostgres(pg)
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return judgeMySQL(my)
	}
	var lite *modernc.Error
	if errors.As(err, &lite) {
		return judgeSQLite(lite.Code())
	}
	if err != nil && unencodable(err) {
		return rowFault
	}
	return unknown
}

// Code names an error by its database's code where it has one, because a database's text can repeat a row's values.
// Errors without a code are named by their text.
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

// Describe says what a database has refused in its own words, for operators, or by its code alone where the words may
// repeat a row's values. Errors without a code are described by what lies deepest in them.
func Describe(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && judge(err) == down && !strings.HasPrefix(pg.Code, "P0") { // a trigger's own words
		return Code(err) + ": " + pg.Message
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) && judge(err) == down && !repeatsValues(my) {
		return Code(err) + ": " + my.Message
	}
	if judge(err) != unknown {
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

// repeatsValues knows the refusals whose text may hold a piece of the statement, in which our values stand: of a parser
// (1064, 1149), Vitess's answer to all that it does not know (1105), and a trigger's own words (class 45).
func repeatsValues(err *mysql.MySQLError) bool {
	switch err.Number {
	case 1064, 1105, 1149, 1644:
		return true
	}
	return string(err.SQLState[:2]) == "45"
}

// unencodable knows the one refusal of a value that pgx itself makes, before the server sees it: a number too large for
// the parameter's type. It has no type of its own.
func unencodable(err error) bool { return strings.Contains(err.Error(), "failed to encode args[") }

// judgePostgres goes by the two-character class: 22 (data) and 23 (constraints) name the row. Our statements are fixed,
// so every other class speaks of the server, its schema, its settings or a pooler before it.
func judgePostgres(err *pgconn.PgError) verdict {
	if err.Severity == "FATAL" || err.Severity == "PANIC" {
		return down // it ends the session: no row does that
	}
	switch err.Code {
	case "23505":
		return duplicateKey
	case "40001", "40P01":
		return tryAgain
	case "22023": // invalid_parameter_value is of a setting or a function's argument, and ours are fixed
		return down
	}
	if strings.HasPrefix(err.Code, "22") || strings.HasPrefix(err.Code, "23") {
		return rowFault
	}
	return down
}

// judgeMySQL goes by SQLSTATE as judgePostgres does, and by the numbers of errors of a value that have no such state:
// many of MySQL's are HY000, and some proxies leave the state out.
func judgeMySQL(err *mysql.MySQLError) verdict {
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

// judgeSQLite goes by the primary code. SQLITE_ERROR covers everything wrong with a statement or its schema; ours are
// fixed.
func judgeSQLite(code int) verdict {
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

// tooLarge knows the codes of a statement that exceeds a limit of the server, and would not if it carried fewer rows.
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
