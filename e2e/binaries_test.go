package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const buildPatience = 15 * time.Minute // with a cold cache on two busy cores

// killPoints is the build tag of internal/killpoint.
const killPoints = "killpoints"

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
	return build(t, "sluice"+tags, func(string) (string, []string) { return "..", []string{"-tags", tags} })
}

// buildFolder returns the folder that keeps builds from run to run.
func buildFolder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../data/builds")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	return dir
}

// build makes a binary, once a test process. how gets a folder for what it needs, and says where to call "go build"
// with which arguments. The linker is spared what has not changed since the last run: the binary is made in a folder
// that stays, and copied, as the next run may replace it.
func build(t testing.TB, name string, how func(dir string) (in string, args []string)) string {
	t.Helper()
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if path, ok := binaries.built[name]; ok {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "sluice-e2e-")
		require.NoError(t, err)
		binaries.dir, binaries.built = dir, map[string]string{}
	}
	in, args := how(binaries.dir)
	kept, path := filepath.Join(buildFolder(t), name), filepath.Join(binaries.dir, name)
	alone, err := os.OpenFile(kept+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	defer alone.Close()
	require.NoError(t, syscall.Flock(int(alone.Fd()), syscall.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
	defer cancel()
	args = slices.Concat([]string{"build", "-buildvcs=false"}, args, []string{"-o", kept, "."})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = in, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOGC=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	out, err = exec.CommandContext(ctx, "cp", kept, path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	binaries.built[name] = path
	return path
}

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
