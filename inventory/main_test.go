package inventory_test

import (
	"log/slog"
	"testing"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store/redis"
)

func TestMain(m *testing.M) {
	redis.LogClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m, tables.Clear)
}
