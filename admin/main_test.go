package admin_test

import (
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/internal/testkit/tables"
	"sluice/store/redis"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	redis.LogClient(stack.QuietLog())
	testkit.VerifyMain(m, tables.Clear)
}

// world is the stack with what only the tests of this package ask of it.
type world struct{ *stack.Stack }

func newWorld(t testing.TB, edits ...func(*stack.Setup)) *world {
	t.Helper()
	return &world{stack.New(t, edits...)}
}

// testNow is a moment that tests know.
var testNow = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
