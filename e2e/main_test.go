// Package e2e judges the built binary from outside: through HTTP, its command
// line and the stores' own clients. It imports nothing of the product.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

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

const buildPatience = 15 * time.Minute // with a cold cache on two busy cores

// binaries are built once and shared by all tests of the process.
var binaries struct {
	mu    sync.Mutex
	dir   string
	built map[string]string
}

// binary returns the path of a build of the module with the given tags: none
// for the release, killPoints for one that can be told where to die.
func binary(t testing.TB, tags string) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path, ok := binaries.built[tags]; ok {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "sluice-e2e-")
		require.NoError(t, err)
		binaries.dir, binaries.built = dir, map[string]string{}
	}
	path := filepath.Join(binaries.dir, "sluice"+tags)
	ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-tags", tags, "-o", path, ".")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	binaries.built[tags] = path
	return path
}

// killPoints is the build tag of internal/killpoint.
const killPoints = "killpoints"

func removeBinaries() error {
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if binaries.dir == "" {
		return nil
	}
	if err := os.RemoveAll(binaries.dir); err != nil {
		return fmt.Errorf("remove the built binaries: %w", err)
	}
	return nil
}
