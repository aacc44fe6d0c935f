package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pingLimit = time.Second // the wait for one node of a cluster
	pingSlots = 16          // slots whose masters are asked
)

// Ping asks Redis for a sign of life, and only masters. Of a cluster one that answers is enough: a node that hangs
// concerns the sales that are on it, and none of the others.
func (r *Redis) Ping(ctx context.Context) error {
	cluster, ok := r.Client.(*redis.ClusterClient)
	if !ok {
		return r.Client.Ping(ctx).Err()
	}
	masters, err := someMasters(ctx, cluster)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	answers := make(chan error, len(masters))
	for addr, node := range masters {
		go func() {
			err := node.Ping(ctx).Err()
			if err != nil {
				err = fmt.Errorf("node %s: %w", addr, err)
			}
			answers <- err
		}()
	}
	// An answer comes in the end from each, for each is bounded.
	defer cancel()
	for range masters {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return err
}

// someMasters returns the masters of some slots, by address, as the client knows them: to ask the cluster who they are
// can take as long as a node that hangs.
func someMasters(ctx context.Context, cluster *redis.ClusterClient) (map[string]*redis.Client, error) {
	masters := map[string]*redis.Client{}
	var last error
	for i := range pingSlots {
		node, err := cluster.MasterForKey(ctx, "sluice:{ping/"+strconv.Itoa(i)+"}")
		if err != nil {
			last = err
			continue
		}
		masters[node.Options().Addr] = node
	}
	if len(masters) == 0 {
		return nil, fmt.Errorf("find a master of the cluster: %w", last)
	}
	return masters, nil
}
