package model_test

import (
	"log/slog"
	"testing"

	"sluice/internal/testkit"
	"sluice/queue"
)

func TestMain(m *testing.M) {
	queue.LogRedisClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}
