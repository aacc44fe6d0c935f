package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/internal/testkit/servers"
)

// stores are the servers that the command shares, and their temporary folder.
type stores struct {
	out     io.Writer
	kinds   []kind
	dir     string
	running []*servers.Server
}

// kind is one server to start, unless variable is set already.
type kind struct {
	name, variable string
	start          func(context.Context) (*servers.Server, error)
	address        func(*servers.Server) string
}

func kinds() []kind {
	return []kind{
		{
			"MariaDB", "SLUICE_TEST_MYSQL_DSN", servers.MySQL,
			func(s *servers.Server) string { return servers.MySQLDSN(s, "") },
		},
		{
			"PostgreSQL", "SLUICE_TEST_POSTGRES_DSN", servers.Postgres,
			func(s *servers.Server) string { return servers.PostgresDSN(s, "postgres") },
		},
	}
}

// start starts the servers and returns what to add to the command's
// environment. What it started is there for close, even after an error.
func (s *stores) start(ctx context.Context) ([]string, error) {
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	env := []string{"TMPDIR=" + s.temp()}
	if err := os.Setenv("TMPDIR", s.temp()); err != nil { // for the servers started here
		return nil, err
	}
	for _, k := range s.kinds {
		if os.Getenv(k.variable) != "" {
			fmt.Fprintf(s.out, "withstores: using the %s that %s names\n", k.name, k.variable)
			continue
		}
		server, err := k.start(ctx)
		if err != nil {
			return nil, err
		}
		s.running = append(s.running, server)
		env = append(env, k.variable+"="+k.address(server))
		fmt.Fprintf(s.out, "withstores: started %s on %s\n", k.name, server.Addr())
	}
	return env, nil
}

// makeFolder makes the folder for everything temporary. Others may pass through it, but not look around. PostgreSQL
// does not run as root and must reach its own folder.
func (s *stores) makeFolder() error {
	var err error
	if s.dir, err = os.MkdirTemp("", "sluice-"); err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	fmt.Fprintln(s.out, "withstores: temporary folder", s.dir)
	// #nosec G301 -- the databases run as other users and must pass through
	if err := os.Mkdir(s.temp(), 0o711); err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	// #nosec G302 -- the databases run as other users and must pass through
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	return nil
}

func (s *stores) temp() string { return filepath.Join(s.dir, "tmp") }

// close stops the servers and removes the folder.
func (s *stores) close() error {
	var errs []error
	for _, server := range s.running {
		errs = append(errs, server.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
		fmt.Fprintln(s.out, "withstores: stopped the servers and removed", s.dir)
	}
	return errors.Join(errs...)
}
