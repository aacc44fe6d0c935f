package queue

import (
	"sluice/store/redis"

	"context"
	"strings"
)

// Event says that an order's state has changed.
type Event struct {
	Sale, OrderID string
	State         State
}

// Listen calls tell for every change that any process settles, until ctx
// ends. Messages sent while the connection to Redis was away are lost:
// whoever waits for one must also look by itself now and then.
func (ls *Lines) Listen(ctx context.Context, tell func(Event)) {
	redis.Listen(ctx, ls.rdb, ls.statusChannel, func(payload string) {
		for _, n := range readEvents(payload) {
			tell(n)
		}
	})
}

// ListenWake calls wake with every sale whose empty line has received tickets,
// until ctx ends. As with Listen, a message may be lost.
func (ls *Lines) ListenWake(ctx context.Context, wake func(sale string)) {
	redis.Listen(ctx, ls.rdb, ls.wakeChannel, wake)
}

// ListenStock calls tell with every sale that had no unit left and has some
// again, until ctx ends. As with Listen, a message may be lost.
func (ls *Lines) ListenStock(ctx context.Context, tell func(sale string)) {
	redis.Listen(ctx, ls.rdb, ls.stockChannel, tell)
}

func readEvents(payload string) []Event {
	lines := strings.Split(payload, "\n")
	news := make([]Event, 0, len(lines)-1)
	for _, line := range lines[1:] {
		id, state, ok := strings.Cut(line, " ")
		if ok && len(state) == 1 && State(state[0]).Valid() {
			news = append(news, Event{Sale: lines[0], OrderID: id, State: State(state[0])})
		}
	}
	return news
}
