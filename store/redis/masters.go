package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	pingLimit = time.Second // the wait for one node of a cluster
	pingSlots = 16          // slots whose masters are asked
)

// Ping asks Redis for a sign of life, and only masters. Of a cluster one answer
// is enough: a node that hangs concerns only the keys that it holds.
func (r *Store) Ping(ctx context.Context) error {
	cluster, ok := r.Client.(*goredis.ClusterClient)
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
	// Each answers in the end: its wait is bounded.
	defer cancel()
	for range masters {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return err
}

// Listen calls each with every message of a channel until ctx ends. Messages
// sent while the connection was away are lost.
func Listen(ctx context.Context, rdb goredis.UniversalClient, channel string, each func(payload string)) {
	cluster, ok := rdb.(*goredis.ClusterClient)
	if !ok {
		listenOn(ctx, rdb, channel, each, nil)
		return
	}
	for ctx.Err() == nil {
		if node := anyMaster(ctx, cluster); node != nil {
			listenOn(ctx, node, channel, each, func() bool { return pinged(ctx, node) == nil })
		}
		_ = sleep(ctx, listenPause) // the loop's condition sees the end
	}
}

const (
	listenCheck = time.Second           // between two checks that the server still answers
	listenPause = 50 * time.Millisecond // before another server is tried
)

// listenOn calls each with every message of a channel until ctx ends, or
// answers, if there is one, says that the server is away.
func listenOn(
	ctx context.Context, rdb goredis.UniversalClient, channel string, each func(payload string), answers func() bool,
) {
	sub := rdb.Subscribe(ctx, channel)
	defer sub.Close()
	messages := sub.Channel()
	check := make(<-chan time.Time)
	if answers != nil {
		ticker := time.NewTicker(listenCheck)
		defer ticker.Stop()
		check = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-check:
			if !answers() {
				return
			}
		case m, ok := <-messages:
			if !ok {
				return
			}
			each(m.Payload)
		}
	}
}

// anyMaster returns a master that answers, nil when there is none. Any will do:
// a cluster passes each message on to every node.
func anyMaster(ctx context.Context, cluster *goredis.ClusterClient) *goredis.Client {
	masters, err := someMasters(ctx, cluster)
	if err != nil {
		return nil
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	answers := make(chan *goredis.Client, len(masters))
	for _, node := range masters {
		go func() {
			if pinged(ctx, node) != nil {
				node = nil
			}
			answers <- node
		}()
	}
	// Each answers in the end: its wait is bounded.
	for range masters {
		if node := <-answers; node != nil {
			return node
		}
	}
	return nil
}

// pinged asks one node for a sign of life.
func pinged(ctx context.Context, node *goredis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	return node.Ping(ctx).Err()
}

// someMasters returns the masters of some slots, by address, as the client
// knows them. It does not ask the cluster, which a node that hangs would delay.
func someMasters(ctx context.Context, cluster *goredis.ClusterClient) (map[string]*goredis.Client, error) {
	masters := map[string]*goredis.Client{}
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
