package queue

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// News says that an order's state has changed.
type News struct {
	Sale, OrderID string
	State         State
}

// Listen calls tell for every change that any process settles, until ctx
// ends. Messages sent while the connection to Redis was away are lost:
// whoever waits for one must also look by itself now and then.
func (ls *Lines) Listen(ctx context.Context, tell func(News)) {
	ls.hear(ctx, ls.statusChannel, func(payload string) {
		for _, n := range readNews(payload) {
			tell(n)
		}
	})
}

// ListenStock calls tell with every sale that had no unit left and has some
// again, until ctx ends. As with Listen, a message may be lost.
func (ls *Lines) ListenStock(ctx context.Context, tell func(sale string)) {
	ls.hear(ctx, ls.stockChannel, tell)
}

// hear calls each with every message of a channel until ctx ends.
func (ls *Lines) hear(ctx context.Context, channel string, each func(payload string)) {
	cluster, ok := ls.rdb.(*redis.ClusterClient)
	if !ok {
		listen(ctx, ls.rdb, channel, each, nil)
		return
	}
	for ctx.Err() == nil {
		if node := anyMaster(ctx, cluster); node != nil {
			listen(ctx, node, channel, each, func() bool { return pinged(ctx, node) == nil })
		}
		_ = sleep(ctx, firstPause) // the loop's condition sees the end
	}
}

// hearAgain is how often it is looked whether the server that is listened to still answers.
const hearAgain = time.Second

// listen calls each with every message of a channel until ctx ends, or well says that the server no longer answers.
func listen(ctx context.Context, rdb redis.UniversalClient, channel string, each func(payload string), well func() bool) {
	sub := rdb.Subscribe(ctx, channel)
	defer sub.Close()
	messages := sub.Channel()
	look := make(<-chan time.Time)
	if well != nil {
		ticker := time.NewTicker(hearAgain)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-look:
			if !well() {
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

// anyMaster returns a master that answers, nil when there is none. A cluster passes each message on to every node, so
// that no line depends on where its channel's name happens to lie.
func anyMaster(ctx context.Context, cluster *redis.ClusterClient) *redis.Client {
	masters, err := someMasters(ctx, cluster)
	if err != nil {
		return nil
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	answers := make(chan *redis.Client, len(masters))
	for _, node := range masters {
		go func() {
			if pinged(ctx, node) != nil {
				node = nil
			}
			answers <- node
		}()
	}
	// An answer comes in the end from each, for each is bounded.
	for range masters {
		if node := <-answers; node != nil {
			return node
		}
	}
	return nil
}

func pinged(ctx context.Context, node *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	return node.Ping(ctx).Err()
}

func readNews(payload string) []News {
	lines := strings.Split(payload, "\n")
	news := make([]News, 0, len(lines)-1)
	for _, line := range lines[1:] {
		id, state, ok := strings.Cut(line, " ")
		if ok && len(state) == 1 && State(state[0]).valid() {
			news = append(news, News{Sale: lines[0], OrderID: id, State: State(state[0])})
		}
	}
	return news
}
