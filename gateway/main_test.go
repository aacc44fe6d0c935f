package gateway

import (
	"testing"

	"github.com/gin-gonic/gin"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/queue"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	queue.LogRedisClient(quietLog())
	testkit.VerifyMain(m, tables.Clear)
}
