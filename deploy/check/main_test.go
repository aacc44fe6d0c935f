package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is the repository, seen from here.
const root = "../.."

// sluice is the binary under test, built once.
var sluice string

func TestMain(m *testing.M) {
	os.Exit(withBinary(m))
}

func withBinary(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-check")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	sluice = filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", sluice, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build sluice: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// secrets is what the environment gives to a configuration that ships without any.
func secrets() []string {
	return []string{"SLUICE_AUTH__SECRET=0123456789abcdef0123456789abcdef", "SLUICE_REDIS__PASSWORD=not-a-secret",
		"PATH=" + os.Getenv("PATH")}
}

func runSluice(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), sluice, args...)
	cmd.Env = env
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, "sluice %v: %s", args, &complaints)
	return out
}

// setting reads a duration of a configuration as the binary understands it.
func setting(t *testing.T, file, key string, env ...string) time.Duration {
	t.Helper()
	var all map[string]struct{ Value any }
	require.NoError(t, json.Unmarshal(runSluice(t, append(secrets(), env...), "config", "print", "--json",
		"--config", file), &all))
	text, ok := all[key].Value.(string)
	require.True(t, ok, "%s has no key %s", file, key)
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}
