package notify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify"
)

func TestConfigNamesTheKeyAtFault(t *testing.T) {
	t.Parallel()
	require.NoError(t, notify.DefaultConfig().Validate())
	err := notify.Config{Batch: 5000, Lease: time.Second, Timeout: time.Second, Retries: -1, Jitter: 2, Keep: -1,
		Grace: -1}.Validate()
	for _, key := range []string{"poll", "batch", "timeout", "retries", "retry_unit", "jitter", "grace", "keep",
		"sweep"} {
		require.ErrorContains(t, err, fmt.Sprintf("notify.%s: ", key))
	}
}
