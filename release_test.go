package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAReleaseIsRefused holds what .ci/release checks before it builds.
func TestAReleaseIsRefused(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(".ci/release")
	require.NoError(t, err)
	changelog := "# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-31\n"
	for name, c := range map[string]struct {
		version, change, tag, want string
	}{
		"a version of another form":   {version: "v1.2.3", want: "VERSION must look like"},
		"no version":                  {want: "VERSION must look like"},
		"a version without a heading": {version: "1.2.4", want: "no heading '## 1.2.4"},
		"a dot is a dot":              {version: "1.213.0", want: "no heading"},
		"a tree with changes":         {version: "1.2.3", change: "new.txt", want: "not committed"},
		"a version that was released": {version: "1.2.3", tag: "v1.2.3", want: "v1.2.3 exists"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			git := func(args ...string) {
				cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=t",
					"-c", "user.email=t@t.invalid"}, args...)...)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
			}
			path := filepath.Join(dir, ".ci", "release")
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
			require.NoError(t, os.WriteFile(path, script, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(changelog), 0o600))
			git("init", "--quiet")
			git("add", ".")
			git("commit", "--quiet", "--message", "x")
			if c.tag != "" {
				git("tag", c.tag)
			}
			if c.change != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, c.change), nil, 0o600))
			}
			out, err := exec.CommandContext(t.Context(), "bash", path, c.version, "--dry-run").CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), c.want)
		})
	}
}
