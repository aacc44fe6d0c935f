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

// Unavailable reports whether err is a fault of the database or of the connection to it, never of the row. Such are:
// unreachable, shutting down, full, read-only, too busy, timed out, cancelled, without its schema, deadlocked even
// after retries. Any code that does not name the row counts, too. The work may be tried again unchanged. After an error
// from a commit it may also have been done already. Unavailable is false for nil, for a RowFault, and for errors that
// come from no database.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	switch classify(err) {
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

// RowFault reports whether err is certainly caused by the written row: by its data, or a constraint that it breaks. It
// is false for every other error, and for unknown ones.
func RowFault(err error) bool {
	v := classify(err)
	return v == rowFault || v == duplicateKey || errors.Is(err, gorm.ErrDuplicatedKey)
}

// TooLarge reports whether a statement exceeds a limit of the server. Smaller statements for the same rows may succeed.
func TooLarge(err error) bool { return err != nil && tooLarge(err) }

// Duplicate reports whether err says that a unique key is taken.
func Duplicate(err error) bool {
	return errors.Is(err, gorm.ErrDuplicatedKey) || classify(err) == duplicateKey
}

// connectionErrors returns the errors of database/sql, the drivers and sockets that mean a lost connection. A
// transaction that is "done" was rolled back because its context ended or its connection broke.
func connectionErrors() []error {
	return []error{
		context.DeadlineExceeded, context.Canceled, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
		mysql.ErrInvalidConn, mysql.ErrBusyBuffer, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul,
		mysql.ErrPktTooLarge, mysql.ErrNoTLS, mysql.ErrCleartextPassword, mysql.ErrNativePassword, mysql.ErrOldPassword,
		mysql.ErrUnknownPlugin, mysql.ErrOldProtocol, pgx.ErrTxCommitRollback, pgx.ErrTxClosed,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed,
	}
}

// encryptionError reports whether err is of a TLS handshake. Most of those are no net.Error.
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

// closedByText reports whether a text is one of two errors without a type: database/sql's closed pool and pgx's closed
// connection.
func closedByText(text string) bool {
	return strings.Contains(text, "sql: database is closed") || strings.Contains(text, "conn closed")
}
