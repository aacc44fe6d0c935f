package work

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
	require.False(t, DefaultConfig().On())
	on := DefaultConfig()
	on.Addr = ":8082"
	require.NoError(t, on.Validate())
	for want, edit := range map[string]func(*Config){
		"work.addr must be":             func(c *Config) { c.Addr = "8082" },
		"work.tls_cert and work.":       func(c *Config) { c.TLSCert = "a" },
		"work.publish_rps must be":      func(c *Config) { c.PublishRPS = -1 },
		"work.publish_burst must be":    func(c *Config) { c.PublishBurst = -1 },
		"work.max_waiting must be":      func(c *Config) { c.MaxWaiting = 0 },
		"work.max_waiting_each must be": func(c *Config) { c.MaxWaitingEach = 0 },
	} {
		bad := DefaultConfig()
		edit(&bad)
		require.ErrorContains(t, bad.Validate(), want)
	}
}
