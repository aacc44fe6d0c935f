package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
)

// verdict is what a database's own error code says about whose fault it was.
type verdict int

const (
	unknown      verdict = iota // not an error with a code
	rowFault                    // the data or the rule it broke
	duplicateKey                // a unique key is taken
	tryAgain                    // rolled back in favour of another transaction
	down                        // the server, its disk, its limits, its schema
)

func judge(err error) verdict {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return judgePostgres(pg.Code)
	}
	var my *mysql.MySQLError
	if errors.As(err, &my) {
		return judgeMySQL(my.Number)
	}
	var lite *modernc.Error
	if errors.As(err, &lite) {
		return judgeSQLite(lite)
	}
	return unknown
}

// errorCode names an error by its code where it has one, because a database's text can repeat a row's values.
func errorCode(err error) string {
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
	return err.Error()
}

// judgePostgres goes by the two-character class. Only data and constraints depend on the row: our statements are fixed, so a
// missing table or a refused permission says nothing about it.
func judgePostgres(code string) verdict {
	switch code {
	case "23505":
		return duplicateKey
	case "40001", "40P01":
		return tryAgain
	case "25P02": // a statement after one whose error the transaction ignored, so the cause lies in that one
		return rowFault
	}
	switch class := code[:min(2, len(code))]; class {
	case "21", "22", "23", "44", "54", "P0":
		return rowFault
	}
	return down
}

// judgeMySQL lists what is the server's, since MySQL numbers its errors without classes.
func judgeMySQL(number uint16) verdict {
	switch number {
	case mysqlDuplicate:
		return duplicateKey
	case 1213, 1020: // deadlock; row changed since it was read
		return tryAgain
	case 1205, 1206, 1317, 1969, 3024: // lock wait, lock table full, interrupted, statement time
		return down
	case 1040, 1203, 1226, 1129, 1053, 1927, 1047, 3169, 4031: // connections, shutdown, killed, cluster not ready
		return down
	case 1044, 1045, 1049, 1142, 1143, 1227, 1698: // not allowed in, no such database
		return down
	case 1054, 1146, 1412, 1615: // schema missing or changing
		return down
	case 1290, 1792, 1836: // read-only
		return down
	case 1021, 1026, 1028, 1030, 1034, 1035, 1037, 1038, 1041, 1114, 1180, 1194, 1195, 1712: // disk, memory, engine
		return down
	case 1152, 1158, 1159, 1160, 1161, 1184, 2006, 2013: // the wire
		return down
	}
	return rowFault
}

// judgeSQLite goes by the primary code. SQLITE_ERROR covers everything wrong with a statement; ours are fixed, so only what
// it says of the schema is the database's.
func judgeSQLite(err *modernc.Error) verdict {
	switch err.Code() {
	case sqlitePrimaryKey, sqliteUnique:
		return duplicateKey
	}
	switch err.Code() & 0xff {
	case 5, 6: // BUSY, LOCKED
		return tryAgain
	case 3, 4, 7, 8, 9, 10, 11, 13, 14, 15, 17, 22, 23, 26: // PERM to NOTADB: file, disk, memory, interrupt
		return down
	case 1:
		if strings.Contains(err.Error(), "no such table") || strings.Contains(err.Error(), "no such column") {
			return down
		}
	}
	return rowFault
}
