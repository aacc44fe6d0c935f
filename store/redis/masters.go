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
	pingSlots = 16          // slots whose masters are pinged
)

// Ping checks that a master of Redis answers. In a cluster one answer is enough: a node that hangs concerns only its
// own keys.
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
	// Every ping returns: its wait is bounded.
	defer cancel()
	for range masters {
		if err = <-answers; err == nil {
			return nil
		}
	}
	return err
}

// Listen calls each with every message of a channel until ctx ends. Messages sent while there is no connection are
// lost.
func Listen(ctx context.Context, rdb goredis.UniversalClient, channel string, each func(payload string)) {
	cluster, ok := rdb.(*goredis.ClusterClient)
	if !ok {
		listenOn(ctx, rdb, channel, each, nil)
		return
	}
	for ctx.Err() == nil {
		if node := anyMaster(ctx, cluster); node != nil {
			listenOn(ctx, node, channel, each, func() bool { return pingNode(ctx, node) == nil })
		}
		_ = sleep(ctx, listenPause) // the loop's condition checks ctx
	}
}

const (
	listenCheck = time.Second           // between two checks that the server still answers
	listenPause = 50 * time.Millisecond // before the next server is tried
)

// listenOn calls each with every message of a channel until ctx ends. It also ends when answers, unless that is nil,
// reports that the server is away.
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

// anyMaster returns a master that answers, or nil. Any master suffices, because a cluster forwards each message to
// every node.
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
			if pingNode(ctx, node) != nil {
				node = nil
			}
			answers <- node
		}()
	}
	// Every ping returns: its wait is bounded.
	for range masters {
		if node := <-answers; node != nil {
			return node
		}
	}
	return nil
}

// pingNode checks that one node answers.
func pingNode(ctx context.Context, node *goredis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	return node.Ping(ctx).Err()
}

// someMasters returns the masters of some slots, by address, from the client's memory. Asking the cluster could hang
// with one of its nodes.
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
