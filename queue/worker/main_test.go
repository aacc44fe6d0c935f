package worker

import (
	"sluice/store/redis"

	"log/slog"
	"testing"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	redis.LogClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}
