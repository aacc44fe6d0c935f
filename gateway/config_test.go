package gateway

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/gateway/auth"
	"sluice/gateway/ratelimit"
	"sluice/gateway/server"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, server.DefaultHTTPConfig().Validate())
	require.NoError(t, server.DefaultOpsConfig().Validate())
	require.NoError(t, DefaultConfig().Validate())
	require.NoError(t, ratelimit.DefaultConfig().Validate())
	require.NoError(t, ValidateTogether(server.DefaultHTTPConfig(), DefaultConfig(), auth.DefaultConfig()))
	require.ErrorContains(t, auth.DefaultConfig().Validate(), "auth.secret", "a secret has no default")
}

func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	http := func(edit func(*server.HTTPConfig)) error {
		c := server.DefaultHTTPConfig()
		edit(&c)
		return c.Validate()
	}
	gateway := func(edit func(*Config)) error { c := DefaultConfig(); edit(&c); return c.Validate() }
	limits := func(edit func(*ratelimit.Config)) error {
		c := ratelimit.DefaultConfig()
		edit(&c)
		return c.Validate()
	}
	for want, err := range map[string]error{
		"http.addr":                http(func(c *server.HTTPConfig) { c.Addr = "8080" }),
		"got \":99999\"":           http(func(c *server.HTTPConfig) { c.Addr = ":99999" }),
		"http.read_header_timeout": http(func(c *server.HTTPConfig) { c.ReadHeaderTimeout = 0 }),
		"http.read_timeout":        http(func(c *server.HTTPConfig) { c.ReadTimeout = time.Second }),
		"http.write_timeout":       http(func(c *server.HTTPConfig) { c.WriteTimeout = -1 }),
		"http.idle_timeout":        http(func(c *server.HTTPConfig) { c.IdleTimeout = 0 }),
		"http.max_header_bytes":    http(func(c *server.HTTPConfig) { c.MaxHeaderBytes = 1 }),
		"http.max_conns":           http(func(c *server.HTTPConfig) { c.MaxConns = -1 }),
		"ops.addr":                 server.OpsConfig{Addr: "x"}.Validate(),
		"gateway.busy_url":         gateway(func(c *Config) { c.BusyURL = "javascript:alert(1)" }),
		"http(s) address":          gateway(func(c *Config) { c.BusyURL = "//evil.example" }),
		"gateway.trusted_proxies":  gateway(func(c *Config) { c.TrustedProxies = []string{"0.0.0.0/0"} }),
		"\"nginx\"":                gateway(func(c *Config) { c.TrustedProxies = []string{"10.0.0.1", "nginx"} }),
		"gateway.access_log_every": gateway(func(c *Config) { c.AccessLogEvery = 0 }),
		"gateway.max_wait":         gateway(func(c *Config) { c.MaxWait = 0 }),
		"gateway.retry_after":      gateway(func(c *Config) { c.RetryAfter = 0 }),
		"gateway.retry_spread":     gateway(func(c *Config) { c.RetrySpread = -1 }),
		"limits.global_rps":        limits(func(c *ratelimit.Config) { c.GlobalRPS = math.NaN() }),
		"limits.per_user_burst":    limits(func(c *ratelimit.Config) { c.PerUserBurst = -1 }),
		"limits.per_ip_rps":        limits(func(c *ratelimit.Config) { c.PerIPRPS = math.Inf(1) }),
	} {
		require.ErrorContains(t, err, want)
	}
	err := http(func(c *server.HTTPConfig) { c.Addr, c.IdleTimeout = "", 0 })
	require.ErrorContains(t, err, "http.addr")
	require.ErrorContains(t, err, "http.idle_timeout", "every bad key is named at once")
}

func TestValidateAuth(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  auth.Config
		want string
	}{
		{auth.Config{Mode: auth.ModeJWT, Secret: strings.Repeat("s", 32)}, ""},
		{auth.Config{Mode: auth.ModeJWT, PublicKeyFile: "k.pem"}, ""},
		{auth.Config{Mode: auth.ModeHeader, Header: "X-User"}, ""},
		{auth.Config{}, "auth.mode must be jwt or header"},
		{auth.Config{Mode: auth.ModeJWT}, "auth.secret (at least 32 bytes) or auth.public_key_file"},
		{auth.Config{Mode: auth.ModeJWT, Secret: "hunter2"}, "at least 32 bytes, got 7"},
		{auth.Config{Mode: auth.ModeHeader}, "auth.header"},
		{auth.Config{Mode: auth.ModeHeader, Header: "X User"}, "auth.header"},
		{auth.Config{Mode: auth.ModeJWT, Secret: "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----"},
			"auth.public_key_file"},
	} {
		err := test.cfg.Validate()
		if test.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, test.want)
		require.NotContains(t, err.Error(), "hunter2")
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
