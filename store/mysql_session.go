package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// mysqlConnector opens sessions that leave the pool when they are spent.
type mysqlConnector struct {
	driver.Connector
	sessions *sessions
}

// Connect opens one session.
func (c mysqlConnector) Connect(ctx context.Context) (driver.Conn, error) {
	born := c.sessions.now()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := conn.(mysqlConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("mysql driver connection %T lacks a method", conn), conn.Close())
	}
	return &session{mysqlConn: inner, pool: c.sessions, born: born}, nil
}

// mysqlConn is the part of the driver's connection that database/sql uses.
type mysqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// session is a connection that leaves its pool after an error that it would repeat. Like the driver's own, it is used
// by one goroutine at a time.
type session struct {
	mysqlConn
	pool  *sessions
	born  time.Time
	spent bool
}

// note marks the session as spent if err says so, and returns err.
func (s *session) note(err error) error {
	if err != nil && sessionSpent(err) {
		s.spent = true
		s.pool.retire()
	}
	return err
}

// IsValid reports whether the connection may go back to its pool.
func (s *session) IsValid() bool { return !s.spent && s.mysqlConn.IsValid() }

// ResetSession refuses a connection that is retired, or calls the driver's own.
func (s *session) ResetSession(ctx context.Context) error {
	if s.spent || s.pool.retired(s.born) {
		return driver.ErrBadConn
	}
	return s.mysqlConn.ResetSession(ctx)
}

// ExecContext runs a statement.
func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.mysqlConn.ExecContext(ctx, query, args)
	return result, s.note(err)
}

// QueryContext runs a query.
func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.mysqlConn.QueryContext(ctx, query, args)
	return rows, s.note(err)
}

// BeginTx begins a transaction.
func (s *session) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := s.mysqlConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, s.note(err)
	}
	return mysqlTx{tx, s}, nil
}

// PrepareContext prepares a statement.
func (s *session) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := s.mysqlConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, s.note(err)
	}
	inner, ok := stmt.(mysqlStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("mysql driver statement %T lacks a method", stmt), stmt.Close())
	}
	return &preparedStmt{inner, s}, nil
}

// Ping checks that the server answers.
func (s *session) Ping(ctx context.Context) error { return s.note(s.mysqlConn.Ping(ctx)) }

// mysqlTx is a transaction of a session.
type mysqlTx struct {
	driver.Tx
	session *session
}

// Commit commits. A cluster may refuse here what it accepted before.
func (t mysqlTx) Commit() error { return t.session.note(t.Tx.Commit()) }

// mysqlStmt is the part of the driver's prepared statement that database/sql uses.
type mysqlStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

// preparedStmt is a prepared statement of a session.
type preparedStmt struct {
	mysqlStmt
	session *session
}

// ExecContext runs the statement.
func (p *preparedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := p.mysqlStmt.ExecContext(ctx, args)
	return result, p.session.note(err)
}

// QueryContext runs the query.
func (p *preparedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := p.mysqlStmt.QueryContext(ctx, args)
	return rows, p.session.note(err)
}
