package apart

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Server names the server that holds a key, as the client knows it without asking; "" unless Redis is a cluster. A slot
// that no master serves is on any.
func Server(ctx context.Context, rdb redis.UniversalClient, key string) string {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return ""
	}
	master, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return master.Options().Addr
}

// Known is Server for callers that must not wait: "" before the client knows its cluster.
func Known(rdb redis.UniversalClient, key string) string {
	if _, ok := rdb.(*redis.ClusterClient); !ok {
		return ""
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return Server(ctx, rdb, key)
}

// ByServer groups names by the server that holds the key of each, in their order: what is asked of one server in one
// round trip waits for no other.
func ByServer(ctx context.Context, rdb redis.UniversalClient, names []string,
	key func(name string) string) map[string][]string {
	groups := map[string][]string{}
	for _, name := range names {
		server := Server(ctx, rdb, key(name))
		groups[server] = append(groups[server], name)
	}
	return groups
}
