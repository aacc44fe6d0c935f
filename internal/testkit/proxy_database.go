package testkit

import (
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Proxied puts a proxy before the server of a MySQL or PostgreSQL database. It returns the DSN that goes through it.
func Proxied(t *testing.T, d Database) (proxy *Proxy, dsn string) {
	t.Helper()
	return before(t, d, func(upstream string) *Proxy { return NewProxy(t, upstream) })
}

// Rewritten does what Proxied does, with a proxy that answers commands itself when it is told to.
func Rewritten(t *testing.T, d Database) (proxy *Proxy, dsn string) {
	t.Helper()
	return before(t, d, func(upstream string) *Proxy { return NewRewritingProxy(t, d.Driver, upstream) })
}

// before puts a proxy made by start before d's server.
func before(t *testing.T, d Database, start func(upstream string) *Proxy) (proxy *Proxy, dsn string) {
	t.Helper()
	if d.Driver == "mysql" {
		cfg, err := mysql.ParseDSN(d.DSN)
		require.NoError(t, err)
		proxy = start(cfg.Addr)
		cfg.Addr = proxy.Addr()
		return proxy, cfg.FormatDSN()
	}
	address, err := url.Parse(d.DSN)
	require.NoError(t, err)
	proxy = start(address.Host)
	address.Host = proxy.Addr()
	return proxy, address.String()
}
