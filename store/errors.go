package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
)

// Unavailable reports that err is the database's fault or the way to it, never the row's: unreachable, shutting down,
// full, read-only, too busy, timed out, cancelled, without its schema, deadlocked even after retries, or refused with
// any code that does not name the row. The work may be tried again unchanged. After an error from a commit it may also
// have been done already.
//
// It is false for nil, for what RowFault holds, and for errors that come from no database, such as a caller's own rule.
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
	if errors.As(err, &network) || errors.As(err, &connect) || encryptionError(err) {
		return true
	}
	return closedByText(err.Error())
}

// RowFault reports that err is provably of the row that was written: its data, or a constraint or unique key that it
// breaks. It is false for every other error, also for one that this package does not know.
func RowFault(err error) bool {
	v := judge(err)
	return v == rowFault || v == duplicateKey || errors.Is(err, gorm.ErrDuplicatedKey)
}

// TooLarge reports that a statement exceeds a limit of the server, so that the same rows may go in by smaller
// statements.
func TooLarge(err error) bool { return err != nil && tooLarge(err) }

// Duplicate reports that err says a unique key is taken.
func Duplicate(err error) bool {
	return errors.Is(err, gorm.ErrDuplicatedKey) || judge(err) == duplicateKey
}

// connectionErrors come from database/sql, the drivers and the sockets below them. A transaction that is "done" was
// rolled back because its context ended or its connection broke.
func connectionErrors() []error {
	return []error{
		context.DeadlineExceeded, context.Canceled, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
		mysql.ErrInvalidConn, mysql.ErrBusyBuffer, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul,
		mysql.ErrPktTooLarge, mysql.ErrNoTLS, mysql.ErrCleartextPassword, mysql.ErrNativePassword, mysql.ErrOldPassword,
		mysql.ErrUnknownPlugin, mysql.ErrOldProtocol, pgx.ErrTxCommitRollback, pgx.ErrTxClosed,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	}
}

// encryptionError knows the errors of a TLS handshake, which mostly are no net.Error.
func encryptionError(err error) bool {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verify) || errors.As(err, &header) || errors.As(err, &alert) || errors.As(err, &authority) ||
		errors.As(err, &host) || errors.As(err, &invalid)
}

// closedByText knows the two errors that carry no type: database/sql's closed pool and pgx's closed connection.
func closedByText(text string) bool {
	return strings.Contains(text, "sql: database is closed") || strings.Contains(text, "conn closed")
}
