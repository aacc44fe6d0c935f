package queue

import (
	"log/slog"
	"testing"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	LogRedisClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}
