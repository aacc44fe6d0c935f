package gateway

import (
	"testing"

	"github.com/gin-gonic/gin"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store/redis"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	redis.LogClient(quietLog())
	testkit.VerifyMain(m, tables.Clear)
}
