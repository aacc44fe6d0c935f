package ratelimit

import (
	"log/slog"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/queue"
)

func TestMain(m *testing.M) {
	queue.LogRedisClient(slog.New(slog.DiscardHandler))
	testkit.VerifyMain(m)
}

// patience is spent only where something has failed.
const patience = time.Minute

// testNow is when the clock of tests stands still.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }
