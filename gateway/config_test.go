package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/auth"
	"sluice/gateway/server"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	require.NoError(t, ValidateTogether(server.DefaultHTTPConfig(), DefaultConfig(), auth.DefaultConfig()))
}

func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	gateway := func(edit func(*Config)) error { c := DefaultConfig(); edit(&c); return c.Validate() }
	for want, err := range map[string]error{
		"gateway.busy_url":         gateway(func(c *Config) { c.BusyURL = "javascript:alert(1)" }),
		"http(s) address":          gateway(func(c *Config) { c.BusyURL = "//evil.example" }),
		"gateway.trusted_proxies":  gateway(func(c *Config) { c.TrustedProxies = []string{"0.0.0.0/0"} }),
		"\"nginx\"":                gateway(func(c *Config) { c.TrustedProxies = []string{"10.0.0.1", "nginx"} }),
		"gateway.access_log_every": gateway(func(c *Config) { c.AccessLogEvery = 0 }),
		"gateway.max_wait":         gateway(func(c *Config) { c.MaxWait = 0 }),
		"gateway.retry_after":      gateway(func(c *Config) { c.RetryAfter = 0 }),
		"gateway.retry_spread":     gateway(func(c *Config) { c.RetrySpread = -1 }),
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestValidateTogether(t *testing.T) {
	t.Parallel()
	header := auth.Config{Mode: auth.ModeHeader, Header: "X-User"}
	gateway := DefaultConfig()
	require.ErrorContains(t, ValidateTogether(server.DefaultHTTPConfig(), gateway, header), "gateway.trusted_proxies")
	gateway.TrustedProxies = []string{"10.0.0.0/8"}
	require.NoError(t, ValidateTogether(server.DefaultHTTPConfig(), gateway, header))
	gateway.MaxWait = time.Minute
	require.ErrorContains(t, ValidateTogether(server.DefaultHTTPConfig(), gateway, header), "gateway.max_wait")
}

func TestProxies(t *testing.T) {
	t.Parallel()
	prefixes, err := Config{TrustedProxies: []string{"10.1.2.3", "10.9.9.9/8", "2001:db8::1",
		"::ffff:192.0.2.1"}}.Proxies()
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("192.0.2.1/32"),
	}, prefixes)
}
