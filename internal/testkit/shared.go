package testkit

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"sluice/internal/testkit/servers"
)

// shared holds the servers that the tests of one process start on first use
// and VerifyMain stops. A process has one set of tests, hence the one variable.
var shared = struct {
	mu      sync.Mutex
	servers map[string]*servers.Server
	failed  map[string]error // remembered: the next start would fail the same way
}{
	servers: map[string]*servers.Server{},
	failed:  map[string]error{},
}

// sharedDSN addresses the server, as its administrator, that all tests of
// this process share for driver.
func sharedDSN(t testing.TB, driver string) Database {
	t.Helper()
	variable, start, address := "SLUICE_TEST_MYSQL_DSN", servers.MySQL, servers.MySQLDSN
	if driver == "postgres" {
		variable, start, address = "SLUICE_TEST_POSTGRES_DSN", servers.Postgres, servers.PostgresDSN
	}
	if dsn := os.Getenv(variable); dsn != "" {
		return Database{Driver: driver, DSN: dsn}
	}
	server, err := startShared(driver, start)
	if err != nil {
		t.Fatalf("%v\n(or set %s to the address of a server where databases may be made)", err, variable)
	}
	adminDatabase := map[string]string{"mysql": "", "postgres": "postgres"}[driver]
	return Database{Driver: driver, DSN: address(server, adminDatabase)}
}

// startShared starts a server once. It outlives the test that asked first, so
// it does not take that test's context.
func startShared(driver string, start func(context.Context) (*servers.Server, error)) (*servers.Server, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if server, ok := shared.servers[driver]; ok {
		return server, nil
	}
	if err, ok := shared.failed[driver]; ok {
		return nil, err
	}
	server, err := start(context.Background())
	if err != nil {
		shared.failed[driver] = err
		return nil, err
	}
	shared.servers[driver] = server
	return server, nil
}

// stopShared stops all shared servers; a later use starts them anew.
func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var errs []error
	for driver, server := range shared.servers {
		errs = append(errs, server.Close())
		delete(shared.servers, driver)
	}
	return errors.Join(errs...)
}
