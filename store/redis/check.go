package redis

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// checkLimit bounds the check of one server.
const checkLimit = 5 * time.Second

// examine waits until Redis answers and checks every reachable master.
func (r *Store) examine(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := awaitLoaded(ctx, r.Client); err != nil {
		return err
	}
	if cfg.Mode == ModeEmbedded {
		r.Durability = DurabilityMemory
		return nil
	}
	found, err := r.checkEach(ctx, cfg)
	if err != nil {
		return err
	}
	r.weakest(found)
	return nil
}

// finding is the result of checking one master, or why it could not be checked.
type finding struct {
	node       string // its address in a cluster, else empty
	version    string
	durability string
	replicas   int
	err        error
}

// checkEach checks every master. It returns the first error of one that is refused or does not answer.
func (r *Store) checkEach(ctx context.Context, cfg Config) ([]finding, error) {
	found, err := r.checkAll(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, one := range found {
		if one.err != nil {
			return nil, one.problem()
		}
	}
	return found, nil
}

// problem returns the error with its node.
func (f finding) problem() error {
	if f.node == "" {
		return f.err
	}
	return fmt.Errorf("node %s: %w", f.node, f.err)
}

// checkAll checks all masters at the same time, so that one that hangs delays no other.
func (r *Store) checkAll(ctx context.Context, cfg Config) ([]finding, error) {
	switch client := r.Client.(type) {
	case *goredis.ClusterClient:
		var mu sync.Mutex
		var found []finding
		err := client.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
			// Finding the masters may have used up ctx, because it also asks nodes that hang.
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
			defer cancel()
			one := examineServer(own, node, cfg)
			one.node = node.Options().Addr
			mu.Lock()
			defer mu.Unlock()
			found = append(found, one)
			return nil
		})
		return found, err
	case *goredis.Client:
		return []finding{examineServer(ctx, client, cfg)}, nil
	}
	return nil, fmt.Errorf("redis client %T is of no known kind", r.Client)
}

// weakest sets the store's properties to the weakest of all checked servers.
func (r *Store) weakest(found []finding) {
	r.Version, r.Durability, r.replicas = "", DurabilityAlways, math.MaxInt
	for _, one := range found {
		if r.Version == "" || olderVersion(one.version, r.Version) {
			r.Version = one.version
		}
		if rank(one.durability) < rank(r.Durability) {
			r.Durability = one.durability
		}
		r.replicas = min(r.replicas, one.replicas)
	}
	r.Durable = r.Durability == DurabilityAlways
}

// awaitLoaded returns when Redis answers, or at once on an error other than
// "still loading".
func awaitLoaded(ctx context.Context, client goredis.UniversalClient) error {
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

// withHint adds a hint to errors that a wrong configuration causes.
func withHint(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "NOAUTH"), strings.Contains(text, "WRONGPASS"),
		strings.Contains(text, "without any password configured"):
		return fmt.Errorf("%w: check redis.username and redis.password", err)
	case strings.Contains(text, "cluster support disabled"):
		return fmt.Errorf("%w: set redis.mode to single", err)
	case strings.Contains(text, "all sentinels specified"):
		return fmt.Errorf("%w: check redis.addrs, redis.master_name and redis.sentinel_password", err)
	}
	return err
}

// examineServer checks one server.
func examineServer(ctx context.Context, server *goredis.Client, cfg Config) finding {
	text, err := server.Info(ctx).Result()
	if err != nil {
		return finding{
			err: fmt.Errorf("INFO, which tells version and eviction policy, failed; the user needs +info: %w",
				err),
		}
	}
	info := parseInfo(text)
	err = errors.Join(checkRole(info, cfg.Mode), checkVersion(info["redis_version"]),
		checkPolicy(info["maxmemory_policy"]))
	if err == nil {
		err = checkRights(ctx, server, cfg)
	}
	if err != nil {
		return finding{err: err}
	}
	return finding{
		version: info["redis_version"], durability: serverDurability(ctx, server, info), replicas: onlineReplicas(info),
	}
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

// checkRole refuses a server whose role is not the one that redis.mode expects.
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

// checkPolicy allows only noeviction. Under any other policy a full Redis deletes keys, and with them orders.
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

// serverDurability returns the durability of one server.
func serverDurability(ctx context.Context, server goredis.Cmdable, info map[string]string) string {
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

// olderVersion reports whether the dotted version a is older than b; a part that is no number counts as 0.
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
