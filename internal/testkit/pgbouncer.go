package testkit

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/servers"
)

// PgBouncer puts a PgBouncer in transaction mode before the server of a PostgreSQL database. It returns the DSN that
// goes through it. Extra lines of its configuration, such as "default_pool_size = 2", win. It goes with the test.
func PgBouncer(t testing.TB, d Database, extra ...string) Database {
	t.Helper()
	address, err := url.Parse(d.DSN)
	require.NoError(t, err)
	server, err := servers.PgBouncer(t.Context(), address.Host, extra...)
	pooler := own(t, server, err)
	address.Host = pooler.Addr()
	return Database{Driver: d.Driver, DSN: address.String()}
}
