package ratelimit

import (
	"log/slog"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/store/redis"
)

func TestMain(m *testing.M) {
	redis.LogClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}

// patience is spent only where something has failed.
const patience = time.Minute

// testNow is when the clock of tests stands still.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }
