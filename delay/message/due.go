package message

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/delay"
	"sluice/internal/apart"
	"sluice/internal/luascript"
)

const (
	// ClaimTimeout bounds a claim. A stop does not interrupt one: its messages would be leased to nobody.
	ClaimTimeout = 5 * time.Second
	// ClaimPause lies between two claims, so that under load one claim takes many messages.
	ClaimPause = 5 * time.Millisecond
	// ClaimPatience bounds how long a round of claims waits. A slower server goes on while the others begin their next.
	ClaimPatience = 100 * time.Millisecond
	// ClaimServers bounds how many servers of a cluster are asked at a time.
	ClaimServers = 16
)

// FirstDue says when the first message of a subscription is due.
type FirstDue struct {
	Subscription delay.Subscription
	Wait         time.Duration // until then; 0 or less is due
	None         bool          // nothing waits
	Err          error         // why Wait is unknown
}

// FirstDue looks up the first message of every subscription, in one round trip to each store. One that cannot be looked
// up has an error of its own.
func (s *Store) FirstDue(ctx context.Context, subs []delay.Subscription) []FirstDue {
	found := make([]FirstDue, len(subs))
	s.eachPlace(subs, func(at *place, of []int) {
		calls := make([]luascript.Call, len(of))
		for n, i := range of {
			calls[n].Keys = []string{at.keysOf(subs[i]).due}
		}
		for n, reply := range s.scripts.head.RunEach(ctx, at.Redis, calls) {
			answer, err := reply.List()
			i := of[n]
			found[i] = FirstDue{Subscription: subs[i], None: len(answer) == 0, Err: at.failed(err)}
			if !found[i].None {
				ms, err := strconv.ParseInt(answer[0].(string), 10, 64)
				found[i].Wait, found[i].Err = time.Duration(ms)*time.Millisecond, err
			}
		}
	}, func(i int, err error) { found[i] = FirstDue{Subscription: subs[i], Err: err} })
	return found
}

// ByServer groups subscriptions by the server that holds their messages. A store that cannot be asked is one server.
func (s *Store) ByServer(ctx context.Context, subs []delay.Subscription) map[string][]delay.Subscription {
	groups := map[string][]delay.Subscription{}
	for _, g := range s.byPlace(subs) {
		for _, i := range g.of {
			server := serverOf(ctx, g, subs[i])
			groups[server] = append(groups[server], subs[i])
		}
	}
	return groups
}

// serverOf names a server: for logs, and apart from those of other stores.
func serverOf(ctx context.Context, g *group, sub delay.Subscription) string {
	server := ""
	if g.err == nil {
		server = apart.Server(ctx, g.at.Redis, g.at.keysOf(sub).due)
	}
	switch {
	case sub.Store == "":
		return server
	case server == "":
		return "store " + sub.Store
	}
	return "store " + sub.Store + ", " + server
}

// ShortestWait remembers the shortest of several waits. Safe for concurrent use.
type ShortestWait struct{ ns atomic.Int64 }

// NewShortestWait returns one that most is the longest of.
func NewShortestWait(most time.Duration) *ShortestWait {
	s := &ShortestWait{}
	s.ns.Store(int64(most))
	return s
}

// Take notes a wait.
func (s *ShortestWait) Take(wait time.Duration) {
	for {
		shortest := s.ns.Load()
		if int64(wait) >= shortest || s.ns.CompareAndSwap(shortest, int64(wait)) {
			return
		}
	}
}

// Get returns the shortest wait that was noted, at most the longest.
func (s *ShortestWait) Get() time.Duration { return time.Duration(s.ns.Load()) }
