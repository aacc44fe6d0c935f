package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultHTTPConfig().Validate())
	require.NoError(t, DefaultOpsConfig().Validate())
}

func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	http := func(edit func(*HTTPConfig)) error {
		c := DefaultHTTPConfig()
		edit(&c)
		return c.Validate()
	}
	for want, err := range map[string]error{
		"http.addr":                http(func(c *HTTPConfig) { c.Addr = "8080" }),
		"got \":99999\"":           http(func(c *HTTPConfig) { c.Addr = ":99999" }),
		"http.read_header_timeout": http(func(c *HTTPConfig) { c.ReadHeaderTimeout = 0 }),
		"http.read_timeout":        http(func(c *HTTPConfig) { c.ReadTimeout = time.Second }),
		"http.write_timeout":       http(func(c *HTTPConfig) { c.WriteTimeout = -1 }),
		"http.idle_timeout":        http(func(c *HTTPConfig) { c.IdleTimeout = 0 }),
		"http.max_header_bytes":    http(func(c *HTTPConfig) { c.MaxHeaderBytes = 1 }),
		"http.max_conns":           http(func(c *HTTPConfig) { c.MaxConns = -1 }),
		"ops.addr":                 OpsConfig{Addr: "x"}.Validate(),
	} {
		require.ErrorContains(t, err, want)
	}
	err := http(func(c *HTTPConfig) { c.Addr, c.IdleTimeout = "", 0 })
	require.ErrorContains(t, err, "http.addr")
	require.ErrorContains(t, err, "http.idle_timeout", "every bad key is named at once")
}
