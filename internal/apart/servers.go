package apart

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Server returns the server of a key, or "" unless Redis is a cluster. For a slot without a master it returns any
// server.
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

// ServerIfKnown returns what Server does without waiting, or "" before the client knows its cluster.
func ServerIfKnown(rdb redis.UniversalClient, key string) string {
	if _, ok := rdb.(*redis.ClusterClient); !ok {
		return ""
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return Server(ctx, rdb, key)
}

// ByServer groups names by the server of their keys, in order. So a round trip to one server waits for no other.
func ByServer(ctx context.Context, rdb redis.UniversalClient, names []string,
	key func(name string) string) map[string][]string {
	groups := map[string][]string{}
	for _, name := range names {
		server := Server(ctx, rdb, key(name))
		groups[server] = append(groups[server], name)
	}
	return groups
}
