package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// PostgresStandby starts a standby that follows the server at primary,
// host:port, for as long as it reaches it there. It begins with a base backup
// and answers queries, but takes no writes until it is promoted.
func PostgresStandby(ctx context.Context, primary string) (*Server, error) {
	_, initdb, err := FindPostgres()
	if err != nil {
		return nil, err
	}
	backup, err := find("pg_basebackup", "postgresql-client", []string{filepath.Dir(initdb)})
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(primary)
	if err != nil {
		return nil, fmt.Errorf("address of the primary: %w", err)
	}
	r, err := postgresRecipe(nil)
	if err != nil {
		return nil, err
	}
	r.prepare = func(ctx context.Context, s *Server) error {
		return s.once(ctx, backup, "-D", s.data(), "-h", host, "-p", port, "-U", "postgres",
			"--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
	}
	return launch(ctx, r)
}

// PromotePostgres makes a standby take writes and returns when it does. What
// it has not received from its primary by then is lost.
func PromotePostgres(ctx context.Context, standby *Server) error {
	conn, err := pgx.Connect(ctx, PostgresDSN(standby, "postgres"))
	if err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	defer conn.Close(ctx)
	var done bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 30)").Scan(&done); err != nil {
		return fmt.Errorf("promote the standby: %w", err)
	}
	if !done {
		return errors.New("promote the standby: it did not become a primary within 30 s")
	}
	return nil
}
