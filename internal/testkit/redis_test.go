package testkit

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRedisKeepsWhatItAnsweredOverAKill(t *testing.T) {
	t.Parallel()
	server := Redis(t)
	client := server.Client()
	addr, pid := server.Addr(), server.PID()
	for i := range 200 {
		require.NoError(t, client.RPush(t.Context(), "line", i).Err())
	}

	server.Kill()
	require.Zero(t, server.PID())
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.Error(t, client.Ping(t.Context()).Err())

	server.Start()
	require.Equal(t, addr, server.Addr())
	require.NotEqual(t, pid, server.PID())
	length, err := client.LLen(t.Context(), "line").Result()
	require.NoError(t, err)
	require.EqualValues(t, 200, length)

	server.Stop()
	require.Zero(t, server.PID())
	server.Start()
	server.Start() // of a running server: nothing happens
	require.NoError(t, client.Ping(t.Context()).Err())
}

func TestRedisIsDurableAndTakesArguments(t *testing.T) {
	t.Parallel()
	client := Redis(t, "--maxmemory", "3mb").Client()
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "always", "save": "",
		"maxmemory-policy": "noeviction", "maxmemory": "3145728", "bind": "127.0.0.1",
	} {
		got, err := client.ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		require.Equal(t, want, got[name], name)
	}
}

func TestRedisLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var pid int
	var dir string
	t.Run("a test with a server", func(t *testing.T) {
		server := Redis(t)
		pid, dir = server.PID(), server.server.Dir()
		require.DirExists(t, dir)
	})
	require.NoDirExists(t, dir)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	_, err := os.Stat("/proc/" + strconv.Itoa(pid))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRedisKindsAreEmptyAndApart(t *testing.T) {
	t.Parallel()
	kinds := RedisKinds(t)
	require.Equal(t, "embedded", kinds[0].Name)
	require.Equal(t, "real", kinds[1].Name)
	for _, kind := range kinds {
		client := RedisClient(t, kind.Addr)
		size, err := client.DBSize(t.Context()).Result()
		require.NoError(t, err, kind.Name)
		require.Zero(t, size, kind.Name)
		require.NoError(t, client.Set(t.Context(), "k", kind.Name, time.Minute).Err(), kind.Name)
	}
}
