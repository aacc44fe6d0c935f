package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// What survives when Redis dies, weakest first.
const (
	DurabilityMemory   = "memory"   // nothing: it lives in this process
	DurabilityNone     = "none"     // at best the last snapshot, or what the system happened to flush
	DurabilityUnknown  = "unknown"  // an append-only file is written, but the server does not say when it is synced
	DurabilityEverySec = "everysec" // a killed server loses nothing, a lost host about two seconds
	DurabilityAlways   = "always"   // every answered write
)

// rank orders durabilities, the weakest first.
func rank(durability string) int {
	return slices.Index([]string{DurabilityMemory, DurabilityNone, DurabilityUnknown, DurabilityEverySec, DurabilityAlways}, durability)
}

func durabilityRisk(durability string) string {
	switch durability {
	case DurabilityMemory:
		return "waiting orders are lost when this process ends"
	case DurabilityEverySec:
		return "a lost host takes about two seconds of admitted orders with it; set appendfsync always"
	case DurabilityUnknown:
		return "the server does not tell its appendfsync; orders of the last seconds may be lost with its host"
	}
	return "waiting orders can be lost when Redis stops; set appendonly yes and appendfsync always"
}

// examine waits until Redis answers and checks every master it reaches.
func (r *Redis) examine(ctx context.Context, cfg RedisConfig) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := awaitLoaded(ctx, r.Client); err != nil {
		return err
	}
	if cfg.Mode == ModeEmbedded {
		r.Durability = DurabilityMemory
		return nil
	}
	r.Durability, r.replicas = DurabilityAlways, math.MaxInt
	cluster, ok := r.Client.(*redis.ClusterClient)
	if !ok {
		return r.examineServer(ctx, r.Client)
	}
	var mu sync.Mutex
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		if err := r.examineServer(ctx, node); err != nil {
			return fmt.Errorf("node %s: %w", node.Options().Addr, err)
		}
		return nil
	})
}

// awaitLoaded returns when Redis answers, or at once on an error other than
// "still loading".
func awaitLoaded(ctx context.Context, client redis.UniversalClient) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := client.Ping(ctx).Err()
		if err == nil || !strings.HasPrefix(err.Error(), "LOADING") {
			return withHint(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("still loading its data: %w", ctx.Err())
		}
	}
}

// withHint adds what to do to the errors a wrong configuration causes.
func withHint(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"), strings.Contains(text, "without any password configured"):
		return fmt.Errorf("%w: check redis.username and redis.password", err)
	case strings.Contains(text, "cluster support disabled"):
		return fmt.Errorf("%w: set redis.mode to single", err)
	case strings.Contains(text, "all sentinels specified"):
		return fmt.Errorf("%w: check redis.addrs, redis.master_name and redis.sentinel_password", err)
	}
	return err
}

// examineServer checks one server and lowers the version and durability of r
// to its.
func (r *Redis) examineServer(ctx context.Context, server redis.Cmdable) error {
	text, err := server.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("INFO, which tells version and eviction policy, failed; the user needs +info: %w", err)
	}
	info := parseInfo(text)
	if err := errors.Join(checkRole(info, r.Mode), checkVersion(info["redis_version"]), checkPolicy(info["maxmemory_policy"])); err != nil {
		return err
	}
	if v := info["redis_version"]; r.Version == "" || olderVersion(v, r.Version) {
		r.Version = v
	}
	if d := serverDurability(ctx, server, info); rank(d) < rank(r.Durability) {
		r.Durability = d
	}
	r.replicas = min(r.replicas, onlineReplicas(info))
	r.Durable = r.Durability == DurabilityAlways
	return nil
}

// onlineReplicas counts the replicas that follow this server.
func onlineReplicas(info map[string]string) int {
	n := 0
	for name, value := range info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
			n++
		}
	}
	return n
}

func checkRole(info map[string]string, mode string) error {
	switch {
	case info["redis_mode"] == "sentinel":
		return errors.New("this is a sentinel: set redis.mode to sentinel and redis.master_name")
	case info["cluster_enabled"] == "1" && mode != ModeCluster:
		return errors.New("this is a node of a cluster: set redis.mode to cluster")
	case info["role"] == "slave":
		return errors.New("this is a replica, which cannot be written to: give the master's address in redis.addrs")
	}
	return nil
}

// checkPolicy allows only noeviction: under any other policy a full Redis
// deletes keys to make room, and every key of a line holds orders.
func checkPolicy(policy string) error {
	switch policy {
	case "noeviction":
		return nil
	case "":
		return errors.New("INFO does not tell maxmemory_policy: Sluice must know that it is noeviction")
	}
	return fmt.Errorf("maxmemory-policy is %s, so a full Redis would delete admitted orders: "+
		"set maxmemory-policy noeviction in redis.conf, or run CONFIG SET maxmemory-policy noeviction", policy)
}

func serverDurability(ctx context.Context, server redis.Cmdable, info map[string]string) string {
	if info["aof_enabled"] != "1" {
		return DurabilityNone
	}
	conf, err := server.ConfigGet(ctx, "appendfsync").Result()
	if err != nil {
		return DurabilityUnknown
	}
	switch conf["appendfsync"] {
	case "always":
		return DurabilityAlways
	case "everysec":
		return DurabilityEverySec
	case "no":
		return DurabilityNone
	}
	return DurabilityUnknown
}

// parseInfo reads the "name:value" lines of INFO.
func parseInfo(text string) map[string]string {
	info := make(map[string]string, 128)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// olderVersion compares dotted numbers; a part that is no number counts as 0.
func olderVersion(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y)
}
