package testkit

import (
	"testing"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { VerifyMain(m) }

// verify compares the process's goroutines before and after, so this test must
// have the process to itself: it is not parallel.
func TestVerifyToleratesWhatAnImportStartsAndNothingElse(t *testing.T) {
	require.Zero(t, verify(0, func() int { return 0 }), "ants' own two goroutines stood before the first test")
	require.Equal(t, 3, verify(0, func() int { return 3 }), "the tests' own code comes through")

	var pool *ants.Pool
	code := verify(0, func() int {
		var err error
		pool, err = ants.NewPool(1)
		require.NoError(t, err)
		return 0
	})
	require.Equal(t, 1, code, "a pool that is not released is a leak")
	require.NoError(t, pool.ReleaseTimeout(10*time.Second))
}
