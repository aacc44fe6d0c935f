package pattern

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	require.True(t, Match(nil, "any"))
	require.True(t, Match([]string{"phone", "flash-*"}, "flash-17"))
	require.False(t, Match([]string{"phone", "flash-*"}, "phones"))
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	require.NoError(t, Check("queue.sales", []string{"flash-*", "phone"}))
	require.ErrorContains(t, Check("queue.sales", []string{"[a"}), `queue.sales: "[a"`)
	require.Error(t, Check("queue.sales", []string{""}))
	require.Error(t, Check("queue.sales", make([]string, Most+1)))
}
