package queue

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Redis makes every shared function anew in each call of a script that has it in front.
func TestAScriptGetsWhatItUses(t *testing.T) {
	shared := "-- What the file is.\n\n-- a is needed by b\nlocal function a() return 1 end\n\nlocal kept = 5\n\nlocal function b()\n  return a()\nend\n\nlocal function other() return kept end\n\n"
	require.Equal(t, "return 7", link(shared, "return 7"))
	require.Equal(t, "-- a is needed by b\nlocal function a() return 1 end\n\nlocal function b()\n  return a()\nend\n\nreturn b()", link(shared, "return b()"))
	require.Equal(t, "local kept = 5\n\nlocal function other() return kept end\n\nreturn other()", link(shared, "return other()"))
	require.NotContains(t, loadScript("view").source, "give_back")
	require.Contains(t, loadScript("settle").source, "local function give_back")
	require.Equal(t, 1, strings.Count(loadScript("settle").source, "local function now_ms"))
}
