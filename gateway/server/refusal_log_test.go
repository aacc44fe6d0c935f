package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/queue"
)

func TestARefusalIsLoggedOnceForItsReason(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	now := time.Unix(1_000, 0)
	log := NewRefusalLog(slog.New(slog.NewTextHandler(&text, nil)), func() time.Time { return now })
	for range 1_000 {
		log.Note("r1", "/v1/sales/:sale/orders", fmt.Errorf("admit: %w", io.ErrUnexpectedEOF))
		log.Note("r2", "/v1/sales/:sale/orders", queue.ErrNotReady)
	}
	require.Equal(t, 2, strings.Count(text.String(), "\n"), text.String())
	require.Contains(t, text.String(), `reason="redis: no answer" others_since=0`)

	now = now.Add(refusalEvery)
	log.Note("r3", "/v1/orders", fmt.Errorf("held: %w", io.EOF))
	require.Contains(t, text.String(), `reason="redis: no answer" others_since=999 request_id=r3`)

	for i := range 10 * refusalReasons { // any text of a proxy
		log.Note("r4", "/v1/orders", fmt.Errorf("held: %w", redisSays(fmt.Sprintf("CODE%d it says", i))))
	}
	require.LessOrEqual(t, len(log.last), refusalReasons)
}

// redisSays is an error answer of Redis.
type redisSays string

func (a redisSays) Error() string { return string(a) }

// RedisError marks it as one.
func (redisSays) RedisError() {}

func TestReasonsNameTheStore(t *testing.T) {
	t.Parallel()
	require.Equal(t, "redis: OOM", refusalReason(redisSays("OOM command not allowed")))
	require.Equal(t, "not ready", refusalReason(errors.New("a reason of its own")))
}
