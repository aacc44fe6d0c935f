package servers

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// MySQL starts a MariaDB server whose user root has no password. A commit survives the server's
// death but not the machine's. Tests can see no more, and it saves a disk flush per transaction.
func MySQL(ctx context.Context) (*Server, error) { return MySQLWith(ctx) }

// MySQLWith starts a MariaDB with extra arguments, such as
// "--innodb-flush-log-at-trx-commit=1", which come last and win.
func MySQLWith(ctx context.Context, extra ...string) (*Server, error) {
	return Host{}.MySQL(ctx, extra...)
}

// MySQL does on this host what MySQLWith does.
func (h Host) MySQL(ctx context.Context, extra ...string) (*Server, error) {
	program, install, err := FindMySQL()
	if err != nil {
		return nil, err
	}
	return launch(ctx, recipe{
		kind: "mysql", host: h,
		prepare: func(ctx context.Context, s *Server) error {
			if err := s.letIn(); err != nil {
				return err
			}
			return s.once(ctx, install, append([]string{"--no-defaults", "--datadir=" + s.data(),
				"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"},
				asRoot()...)...)
		},
		command: func(s *Server) (string, []string) {
			args := []string{
				"--no-defaults", "--datadir=" + s.data(), "--tmpdir=" + s.dir,
				"--bind-address=" + h.address(), "--port=" + strconv.Itoa(s.port),
				// Relative to its data: the system allows a socket's path about 100 characters.
				"--socket=sock", "--pid-file=" + filepath.Join(s.dir, "pid"),
				"--skip-name-resolve", "--skip-log-bin", "--max-connections=400",
				"--character-set-server=utf8mb4",
				"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
				"--innodb-flush-log-at-trx-commit=2",
				// Tests make thousands of tables, most of which stay empty: a file for each costs more than the table.
				"--innodb-file-per-table=0",
			}
			if h.Namespace != "" {
				args = append(args, "--init-file="+s.rootFile())
			}
			return program, slices.Concat(args, asRoot(), extra)
		},
		ready:    mysqlReady,
		quit:     syscall.SIGTERM,
		orphaned: syscall.SIGKILL,
	})
}

// MySQLDSN returns the go-sql-driver address of a database on a server started by MySQL. An empty
// name addresses the server itself.
func MySQLDSN(s *Server, database string) string {
	return fmt.Sprintf("root@tcp(%s)/%s", s.Addr(), database)
}

// letIn writes what makes root known from other hosts.
func (s *Server) letIn() error {
	const text = "CREATE USER IF NOT EXISTS root@'%';\nGRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\n"
	if err := os.WriteFile(s.rootFile(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("let other hosts in: %w", err)
	}
	return nil
}

func (s *Server) rootFile() string { return filepath.Join(s.dir, "root.sql") }

// asRoot returns what makes MariaDB obey root; nothing if we are somebody else.
func asRoot() []string {
	if os.Geteuid() != 0 {
		return nil
	}
	return []string{"--user=root"}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func mysqlReady(ctx context.Context, s *Server) error {
	config, err := mysql.ParseDSN(MySQLDSN(s, ""))
	if err != nil {
		return err
	}
	config.Logger = &mysql.NopLogger{} // it answers late, which is no news
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var dir string
	if err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir); err != nil {
		return err
	}
	return sameFolder(dir, s.data())
}

// sameFolder tells our server from a stranger that took the port.
func sameFolder(got, want string) error {
	a, err := filepath.EvalSymlinks(got)
	if err != nil {
		return fmt.Errorf("another server answers: %w", err)
	}
	b, err := filepath.EvalSymlinks(want)
	if err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("another server answers, with data in %s", got)
	}
	return nil
}
