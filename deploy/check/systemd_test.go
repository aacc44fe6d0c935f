package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/stretchr/testify/require"
)

const unitFile = "../systemd/sluice.service"

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	options, err := unit.DeserializeOptions(bytes.NewReader(read(t, unitFile)))
	require.NoError(t, err)
	values := map[string]string{}
	for _, o := range options {
		values[o.Name] = o.Value
	}
	timeout, err := time.ParseDuration(values["TimeoutStopSec"])
	require.NoError(t, err)
	require.Greater(t, timeout, setting(t, root+"/configs/production.yaml", "stop.grace"),
		"it would be killed while it drains")
	require.Equal(t, "yes", values["DynamicUser"])
	require.Equal(t, "strict", values["ProtectSystem"])
	require.NotContains(t, values, "EnvironmentFile", "the environment of a process can be read by others of its user")
}

// Where systemd is installed, it reads the unit itself.
func TestSystemdTakesTheUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the unit was only parsed")
		return
	}
	path := filepath.Join(t.TempDir(), "sluice.service")
	text := bytes.ReplaceAll(read(t, unitFile), []byte("/usr/local/bin/sluice"), []byte(sluice))
	require.NoError(t, os.WriteFile(path, text, 0o600))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "sluice.service:", "a line that systemd ignores")
}
