package gateway

import (
	"testing"

	"github.com/gin-gonic/gin"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	testkit.VerifyMain(m)
}
