// Package servers starts private Redis, MariaDB, PostgreSQL and PgBouncer servers for tests.
//
// Each server lives in a folder of its own, listens on 127.0.0.1 only and trusts every local user.
// It dies with the process that started it. Nothing here needs a *testing.T, so the test runner and
// package testkit share it.
package servers
