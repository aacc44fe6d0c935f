package testkit

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/internal/testkit/servers"
)

// RedisServer is a real redis-server of one test.
type RedisServer struct{ handle }

// Redis starts a redis-server that writes each command to disk before it
// answers (appendfsync always) and refuses to evict. Extra arguments, such as
// "--maxmemory", "2mb", come last and win. The server and its files go when
// the test ends.
func Redis(t testing.TB, extra ...string) *RedisServer {
	t.Helper()
	server, err := servers.Redis(t.Context(), extra...)
	return &RedisServer{own(t, server, err)}
}

// Client returns a new client of the server, closed when the test ends.
func (r *RedisServer) Client() *redis.Client {
	return RedisClient(r.t, r.Addr())
}

// RedisClient returns a new client of the Redis at addr, closed when the test
// ends. It sends nothing of its own accord, which an embedded Redis would refuse.
func RedisClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr:                     addr,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("close the client of redis %s: %v", addr, err)
		}
	})
	return client
}

// ProductClient returns a new client of the Redis at addr that, like the product's, never repeats a command. It is
// closed when the test ends.
func ProductClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1, DisableIdentity: true,
		ReadTimeout:              20 * time.Second, // a machine that stands still is no fault of Redis
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Embedded starts an in-memory Redis inside the test process.
func Embedded(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		t.Fatalf("start the embedded redis: %v", err)
	}
	t.Cleanup(server.Close)
	return server
}

// RedisKind is one of the kinds of Redis that the product runs on.
type RedisKind struct {
	Name string // "embedded" or "real"
	Addr string
}

// RedisKinds starts an empty Redis of each kind, for suites that must hold on both.
func RedisKinds(t testing.TB) []RedisKind {
	t.Helper()
	return []RedisKind{
		{Name: "embedded", Addr: Embedded(t).Addr()},
		{Name: "real", Addr: Redis(t).Addr()},
	}
}
