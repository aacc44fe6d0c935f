package servers

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MissingError says that a server's program is not installed, and what to install.
type MissingError struct {
	Program string // as it was looked for
	Package string // the Debian package that holds it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not installed: install the Debian package %s "+
		"(apt-get install --no-install-recommends %s)", e.Program, e.Package, e.Package)
}

// FindRedis returns the path of redis-server, or a *MissingError.
func FindRedis() (string, error) {
	return find("redis-server", "redis-server", nil)
}

// FindMySQL returns the paths of MariaDB's server and of the program that makes
// its data folder, or a *MissingError.
func FindMySQL() (server, install string, err error) {
	places := []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"}
	if server, err = find("mariadbd", "mariadb-server", places); err != nil {
		return "", "", err
	}
	install, err = find("mariadb-install-db", "mariadb-server", places)
	return server, install, err
}

// FindPostgres returns the paths of the newest installed PostgreSQL server and
// of its initdb, or a *MissingError.
func FindPostgres() (server, initdb string, err error) {
	places := newestFirst("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin")
	if initdb, err = find("initdb", "postgresql", places); err != nil {
		return "", "", err
	}
	// Both must be of one version, and PATH may hold a link to only one of them.
	if target, err := filepath.EvalSymlinks(initdb); err == nil {
		initdb = target
	}
	server, err = find("postgres", "postgresql", []string{filepath.Dir(initdb)})
	return server, initdb, err
}

// FindPgBouncer returns the path of pgbouncer, or a *MissingError.
func FindPgBouncer() (string, error) {
	return find("pgbouncer", "pgbouncer", []string{"/usr/sbin", "/opt/homebrew/bin"})
}

// find prefers the given folders to PATH.
func find(program, pkg string, places []string) (string, error) {
	for _, dir := range places {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", &MissingError{Program: program, Package: pkg}
	}
	return path, nil
}

// newestFirst expands patterns whose folder above bin ends with a version,
// as in 15/bin or postgresql@15/bin; 16 comes before 9.6.
func newestFirst(patterns ...string) []string {
	version := func(bin string) float64 {
		name := filepath.Base(filepath.Dir(bin))
		number, err := strconv.ParseFloat(name[strings.LastIndex(name, "@")+1:], 64)
		if err != nil {
			return 0
		}
		return number
	}
	var found []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(pattern)
		if err == nil {
			found = append(found, matches...)
		}
	}
	slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return found
}

// environment returns what a server gets to see. It has none of the PG*, MYSQL* or locale settings
// of whoever runs the tests. It has a TMPDIR of its own, because MariaDB deletes the temporary
// tables of any other that shares it.
func environment(dir string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C"}
}
