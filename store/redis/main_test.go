package redis

import (
	"log/slog"
	"testing"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	LogClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}
