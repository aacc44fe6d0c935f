package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// Unavailable reports that err is the database's fault or the way to it, never the row's: unreachable, shutting down, full,
// read-only, too busy, timed out, cancelled, without its schema, deadlocked even after retries. The work may be tried again
// unchanged. After an error from a commit it may also have been done already.
//
// It is false for nil and for every error this package does not know, such as one a caller's own rule returned.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	switch judge(err) {
	case rowFault, duplicateKey:
		return false
	case tryAgain, down:
		return true
	}
	for _, known := range connectionErrors() {
		if errors.Is(err, known) {
			return true
		}
	}
	var network net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &network) || errors.As(err, &connect) {
		return true
	}
	return closedByText(err.Error())
}

// Duplicate reports that err says a unique key is taken.
func Duplicate(err error) bool {
	return errors.Is(err, gorm.ErrDuplicatedKey) || judge(err) == duplicateKey
}

// connectionErrors come from database/sql, the drivers and the sockets below them. A transaction that is "done" was rolled
// back because its context ended or its connection broke.
func connectionErrors() []error {
	return []error{
		context.DeadlineExceeded, context.Canceled, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
		mysql.ErrInvalidConn, mysql.ErrBusyBuffer, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	}
}

// closedByText knows the two errors that carry no type: database/sql's closed pool and pgx's closed connection.
func closedByText(text string) bool {
	return strings.Contains(text, "sql: database is closed") || strings.Contains(text, "conn closed")
}
