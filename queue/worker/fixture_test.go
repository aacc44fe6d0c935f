package worker_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// box is one line on one Redis, with what these tests ask of it besides.
type box struct{ *queues.Bench }

func newBox(t testing.TB, addr string, s queue.Settings) *box {
	t.Helper()
	return &box{Bench: queues.Open(t, addr, s)}
}

func boxOn(t testing.TB, rdb *redis.Client, sale string, s queue.Settings) *box {
	t.Helper()
	return &box{Bench: queues.OpenOn(t, rdb, sale, s)}
}
