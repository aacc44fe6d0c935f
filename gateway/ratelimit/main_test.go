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

// patience bounds waits for what must happen; passing tests do not use it up.
const patience = time.Minute

// testNow is the time of the stopped clock.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }
