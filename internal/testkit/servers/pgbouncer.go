package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// PgBouncer starts a PgBouncer in transaction mode before the PostgreSQL server at addr, a host:port. It pools every
// database and knows one user, "postgres", without a password. Extra lines, such as "default_pool_size = 2", come last
// and win; all else is PgBouncer's default.
func PgBouncer(ctx context.Context, addr string, extra ...string) (*Server, error) {
	program, err := FindPgBouncer()
	if err != nil {
		return nil, err
	}
	credential, err := postgresUser() // PgBouncer, too, refuses to run as root
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address of the PostgreSQL behind PgBouncer: %w", err)
	}
	return launch(ctx, recipe{
		kind: "pgbouncer",
		configure: func(s *Server) error {
			lines := []string{
				"[databases]", fmt.Sprintf("* = host=%s port=%s", host, port),
				"[pgbouncer]", "pool_mode = transaction",
				"listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", s.port), "unix_socket_dir =",
				"pidfile = " + s.poolerPID(), "auth_type = trust", "auth_file = " + filepath.Join(s.dir, "users"),
				"admin_users = postgres",
			}
			return writeAll(s.dir, map[string]string{
				"users":         "\"postgres\" \"\"\n",
				"pgbouncer.ini": strings.Join(append(lines, extra...), "\n") + "\n",
			})
		},
		command: func(s *Server) (string, []string) {
			return program, []string{filepath.Join(s.dir, "pgbouncer.ini")}
		},
		ready:      pgBouncerReady,
		credential: credential,
		quit:       syscall.SIGTERM, // at once
		orphaned:   syscall.SIGKILL,
	})
}

// writeAll writes files that a server running as another user can read.
func writeAll(dir string, files map[string]string) error {
	for name, text := range files {
		// #nosec G306 -- it holds no secret and is read by another user
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) poolerPID() string { return filepath.Join(s.dir, "pid") }

// pgBouncerReady asks for the name of the file with its process id. So a stranger on our port is not taken for it.
func pgBouncerReady(ctx context.Context, s *Server) error {
	dsn := fmt.Sprintf("postgres://postgres@%s/pgbouncer?sslmode=disable&default_query_exec_mode=simple_protocol",
		s.Addr())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SHOW CONFIG")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		if string(values[0]) != "pidfile" {
			continue
		}
		if got := string(values[1]); got != s.poolerPID() {
			return fmt.Errorf("another PgBouncer answers, with its process id in %s", got)
		}
		return nil
	}
	return fmt.Errorf("no pidfile in SHOW CONFIG: %w", rows.Err())
}
