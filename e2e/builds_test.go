package e2e

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

//go:embed previous.txt
var previousText string

// beforeRanges is the last commit whose builds tell no schema range.
const beforeRanges = "d3c6ac5"

// previousCommit returns the commit that previous.txt names.
func previousCommit() (commit string) {
	for line := range strings.Lines(previousText) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			commit = line
		}
	}
	return commit
}

// Every build that a test rolls from or to is compiled before the tests that run beside each other: compiling is on
// nobody's clock.
func TestEveryBuildTellsItsVersion(t *testing.T) {
	previous := previousCommit()
	for path, version := range map[string]string{
		buildOf(t, previous): previous[:7], buildOf(t, beforeRanges): beforeRanges, nextBuild(t): "next",
		binary(t, ""): "dev", binary(t, killPoints): "dev",
	} {
		out, err := exec.CommandContext(t.Context(), path, "version").CombinedOutput() // #nosec G204 -- built above
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), version)
	}
}

// buildOf returns a build of a commit of this repository.
func buildOf(t *testing.T, commit string) string {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "git", "-C", "..", "cat-file", "-e", commit+"^{commit}").
		Run(); err != nil {
		t.Fatalf("commit %s is not in this repository's history (%v): upgrades are tested with a build of it. "+
			"In a shallow clone run `git fetch --unshallow`; without git, this test cannot run", commit, err)
	}
	return build(t, "sluice-"+commit, func(string) (string, []string) {
		return sourceOf(t, commit), []string{"-ldflags", "-X main.version=" + commit[:7]}
	})
}

// sourceOf returns the folder that holds the files of a commit. It stays: what was compiled in a folder is found in the
// build cache by those who compile there again.
func sourceOf(t *testing.T, commit string) string {
	t.Helper()
	sources := filepath.Join(buildFolder(t), "sources")
	source := filepath.Join(sources, commit)
	if _, err := os.Stat(source); err == nil {
		return source
	}
	require.NoError(t, os.MkdirAll(sources, 0o755))
	dir, err := os.MkdirTemp(sources, "new-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	archive, files := filepath.Join(dir, "archive.tar"), filepath.Join(dir, "files")
	require.NoError(t, os.Mkdir(files, 0o755))
	for _, step := range [][]string{
		{"git", "-C", "..", "archive", "--output", archive, commit}, {"tar", "-xf", archive, "-C", files},
	} {
		out, err := exec.CommandContext(t.Context(), step[0], step[1:]...).CombinedOutput()
		require.NoError(t, err, "%v: %s", step, out)
	}
	if err := os.Rename(files, source); err != nil {
		require.DirExists(t, source, "another run was quicker, or: %v", err)
	}
	return source
}

// nextBuild returns this build with two migrations more: 9998 adds a table, 9999 takes one of its columns away.
func nextBuild(t *testing.T) string {
	t.Helper()
	return build(t, "sluice-next", func(dir string) (string, []string) {
		root, err := filepath.Abs("..")
		require.NoError(t, err)
		replaced := map[string]string{}
		for name, text := range map[string]string{
			"9998_more.sql": "-- +goose Up\nCREATE TABLE more (\n    id  BIGINT NOT NULL PRIMARY KEY,\n    old " +
				"BIGINT NULL\n);\n",
			"9999_less.sql": "-- +sluice contract\n-- +goose Up\nALTER TABLE more DROP COLUMN old;\n",
		} {
			file := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			for _, driver := range []string{"mysql", "postgres", "sqlite"} {
				replaced[filepath.Join(root, "store", "schema", "migrations", driver, name)] = file
			}
		}
		overlay, err := json.Marshal(map[string]any{"Replace": replaced})
		require.NoError(t, err)
		file := filepath.Join(dir, "overlay.json")
		require.NoError(t, os.WriteFile(file, overlay, 0o600))
		return root, []string{"-overlay", file, "-ldflags", "-X main.version=next"}
	})
}
