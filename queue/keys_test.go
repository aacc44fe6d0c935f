package queue_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

func TestValidSaleID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "0", "phone-x_1", "A" + strings.Repeat("-", 63)} {
		require.True(t, queue.ValidSaleID(id), id)
	}
	for _, id := range []string{"", "-a", "_a", "a b", "a/b", "a{b}", "a:b", "é", "a\n", strings.Repeat("a", 65)} {
		require.False(t, queue.ValidSaleID(id), id)
	}
}
