package ratelimit

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultConfig().Validate())
}

func TestValidateNamesTheKey(t *testing.T) {
	t.Parallel()
	limits := func(edit func(*Config)) error {
		c := DefaultConfig()
		edit(&c)
		return c.Validate()
	}
	for want, err := range map[string]error{
		"limits.global_rps":     limits(func(c *Config) { c.GlobalRPS = math.NaN() }),
		"limits.per_user_burst": limits(func(c *Config) { c.PerUserBurst = -1 }),
		"limits.per_ip_rps":     limits(func(c *Config) { c.PerIPRPS = math.Inf(1) }),
	} {
		require.ErrorContains(t, err, want)
	}
}
