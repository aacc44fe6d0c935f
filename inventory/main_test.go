package inventory_test

import (
	"log/slog"
	"testing"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/queue"
)

func TestMain(m *testing.M) {
	queue.LogRedisClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m, tables.Clear)
}
