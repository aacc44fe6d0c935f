package luascript

import (
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestAScriptGetsWhatItUses checks that a script gets only the shared functions that it uses.
func TestAScriptGetsWhatItUses(t *testing.T) {
	shared := functions(
		"-- What the file is.\n\n-- a is needed by b\nlocal function a() return 1 end\n\nlocal kept = 5\n\nlocal " +
			"function b()\n  return a()\nend\n\nlocal function other() return kept end\n\n")
	require.Equal(t, "return 7", link(shared, "return 7"))
	require.Equal(t, "return 7 -- not a\n-- nor b\n", link(shared, "return 7 -- not a\n-- nor b\n"))
	require.Equal(t,
		"-- a is needed by b\nlocal function a() return 1 end\n\nlocal function b()\n  return a()\nend\n\nreturn b()",
		link(shared, "return b()"))
	require.Equal(t, "local kept = 5\n\nlocal function other() return kept end\n\nreturn other()",
		link(shared, "return other()"))
}

func TestCallsAreGrouped(t *testing.T) {
	sizes := func(groups [][]Call) (sizes []int) {
		for _, g := range groups {
			sizes = append(sizes, len(g))
		}
		return sizes
	}
	of := func(n, args int) []Call {
		return slices.Repeat([]Call{{Keys: []string{"a", "b"}, Args: make([]any, args)}}, n)
	}
	one := redis.NewClient(&redis.Options{})
	defer one.Close()
	require.Empty(t, groupCalls(one, nil))
	require.Equal(t, []int{1}, sizes(groupCalls(one, of(1, 5_000))))
	require.Equal(t, []int{32, 32, 6}, sizes(groupCalls(one, of(70, 10))))
	require.Equal(t, []int{2, 2, 1}, sizes(groupCalls(one, of(5, 600))))
	require.Equal(t, []int{1, 1}, sizes(groupCalls(one, of(2, 601))))
	cluster := redis.NewClusterClient(&redis.ClusterOptions{})
	defer cluster.Close()
	require.Equal(t, []int{1, 1, 1}, sizes(groupCalls(cluster, of(3, 10))), "their keys may be on several servers")
}
