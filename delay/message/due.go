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

// FirstDue looks up the first message of every subscription in one round trip. One that cannot be looked up has an
// error of its own.
func (s *Store) FirstDue(ctx context.Context, subs []delay.Subscription) []FirstDue {
	calls := make([]luascript.Call, len(subs))
	for i, sub := range subs {
		calls[i].Keys = []string{s.keysOf(sub).due}
	}
	found := make([]FirstDue, len(subs))
	for i, reply := range s.scripts.head.RunEach(ctx, s.rdb, calls) {
		answer, err := reply.List()
		found[i] = FirstDue{Subscription: subs[i], None: len(answer) == 0, Err: err}
		if !found[i].None {
			ms, err := strconv.ParseInt(answer[0].(string), 10, 64)
			found[i].Wait, found[i].Err = time.Duration(ms)*time.Millisecond, err
		}
	}
	return found
}

// ByServer groups subscriptions by the server that holds their messages.
func (s *Store) ByServer(ctx context.Context, subs []delay.Subscription) map[string][]delay.Subscription {
	names, named := make([]string, len(subs)), make(map[string]delay.Subscription, len(subs))
	for i, sub := range subs {
		names[i], named[sub.Name] = sub.Name, sub
	}
	groups := map[string][]delay.Subscription{}
	for server, some := range apart.ByServer(ctx, s.rdb, names,
		func(name string) string { return s.keysOf(named[name]).due }) {
		for _, name := range some {
			groups[server] = append(groups[server], named[name])
		}
	}
	return groups
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
