// Package e2e checks the built binary from outside: through HTTP, its command
// line and the stores' own clients. It imports nothing of the product.
package e2e

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"sluice/internal/testkit"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quietLog{}) // that a server is down is no news here
	testkit.VerifyMain(m, removeBinaries)
}

// quietLog is a log that nobody reads.
type quietLog struct{}

// Printf does nothing.
func (quietLog) Printf(context.Context, string, ...any) {}
