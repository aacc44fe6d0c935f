package testkit

import (
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Proxied puts a proxy before the server of a MySQL or PostgreSQL database and returns the DSN that goes through it.
func Proxied(t *testing.T, d Database) (proxy *Proxy, dsn string) {
	t.Helper()
	if d.Driver == "mysql" {
		cfg, err := mysql.ParseDSN(d.DSN)
		require.NoError(t, err)
		proxy = NewProxy(t, cfg.Addr)
		cfg.Addr = proxy.Addr()
		return proxy, cfg.FormatDSN()
	}
	address, err := url.Parse(d.DSN)
	require.NoError(t, err)
	proxy = NewProxy(t, address.Host)
	address.Host = proxy.Addr()
	return proxy, address.String()
}
