package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Postgres starts a PostgreSQL server that trusts its superuser "postgres". A commit survives the
// server's death but not the machine's. Tests can see no more, and it saves a disk flush per
// transaction.
func Postgres(ctx context.Context) (*Server, error) { return PostgresWith(ctx) }

// PostgresWith does what Postgres does, with extra arguments, such as "-c", "fsync=on",
// which come last and win.
func PostgresWith(ctx context.Context, extra ...string) (*Server, error) {
	_, initdb, err := FindPostgres()
	if err != nil {
		return nil, err
	}
	r, err := postgresRecipe(extra)
	if err != nil {
		return nil, err
	}
	r.prepare = func(ctx context.Context, s *Server) error {
		return s.once(ctx, initdb, "-D", s.data(), "-U", "postgres",
			"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	}
	return launch(ctx, r)
}

// postgresRecipe lacks how the data folder is made.
func postgresRecipe(extra []string) (recipe, error) {
	program, _, err := FindPostgres()
	if err != nil {
		return recipe{}, err
	}
	credential, err := postgresUser()
	if err != nil {
		return recipe{}, err
	}
	return recipe{
		kind: "postgres",
		command: func(s *Server) (string, []string) {
			args := []string{
				"-D", s.data(), "-p", strconv.Itoa(s.port),
				"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
				"-c", "max_connections=400", "-c", "shared_buffers=64MB",
				"-c", "dynamic_shared_memory_type=mmap", // inside the folder, so removed with it
				"-c", "fsync=off", "-c", "full_page_writes=off",
			}
			return program, append(args, extra...)
		},
		ready:      postgresReady,
		credential: credential,
		quit:       syscall.SIGINT,  // does not wait for connected clients
		orphaned:   syscall.SIGQUIT, // at once, but takes its shared memory along
	}, nil
}

// PostgresDSN returns the URL of a database on a server started by Postgres.
func PostgresDSN(s *Server, database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.Addr(), database)
}

// postgresUser returns whom to run PostgreSQL as: it refuses to be root. nil is ourselves.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("PostgreSQL does not run as root and there is no user to run it as: %w",
		errors.Join(errs...))
}

func postgresReady(ctx context.Context, s *Server) error {
	conn, err := pgx.Connect(ctx, PostgresDSN(s, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	return sameFolder(dir, s.data())
}
