package server

import (
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/internal/testkit"
)

// testNow is the time of the stopped clock.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

func fixedClock() time.Time { return testNow }

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testkit.VerifyMain(m)
}
