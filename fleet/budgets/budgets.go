// Package budgets deals rates that several instances spend together.
package budgets

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/internal/luascript"
)

//go:embed renew.lua
var renew string

// Store keeps the budgets of one installation. Each instance leases tokens for a short while and spends them without
// asking. Over any time T at most rate × T + depth tokens are dealt, however many instances there are. What no instance
// wants lies in Redis, for whoever comes first. Safe for concurrent use.
type Store struct {
	prefix string
	rdb    redis.UniversalClient
	renew  luascript.Script
}

// New returns the budgets kept in rdb under a prefix, redis.prefix.
func New(rdb redis.UniversalClient, prefix string) *Store {
	return &Store{prefix: prefix, rdb: rdb, renew: luascript.New("renew", renew)}
}

// key returns the name of one budget in Redis. Each has a slot of its own.
func (s *Store) key(budget string) string { return s.prefix + ":{budget/" + budget + "}" }

// Claim is what an instance says when it renews its share of a budget.
type Claim struct {
	Budget   string // its name, for the key
	Instance string
	Rate     float64       // tokens per second of all instances together; positive
	Depth    float64       // most tokens that may lie unspent, everywhere together; at least 1
	Demand   float64       // requests per second this instance sees, refused ones included
	Held     int64         // tokens it has not spent; negative when it owes some
	Wants    int64         // most tokens it wants to hold: what it leaves others find at once
	Lapse    time.Duration // after which it counts as gone, unless it renews
}

// Share is what the instance got.
type Share struct {
	Tokens    int64   // to add to those it holds; negative: it gave back
	Part      float64 // of the whole rate, 0 to 1
	Instances int     // that share the budget, this one included
	// Err is why it got none. Tokens may have been dealt: they are lost until the instance lapses or renews.
	Err error
}

// Renew deals an instance its shares of several budgets in one round trip. They come in the order of claims, each by
// itself. One after the other, sixty-four of them would outlast their own leases on a Redis that waits for its disk.
func (s *Store) Renew(ctx context.Context, claims []Claim) []Share {
	calls := make([]luascript.Call, len(claims))
	for i, c := range claims {
		calls[i] = s.call(c, c.Lapse)
	}
	shares := make([]Share, len(claims))
	for i, reply := range s.renew.RunEach(ctx, s.rdb, calls) {
		list, err := reply.List()
		if err == nil && len(list) != 3 {
			err = fmt.Errorf("budget %s answered %d values, not 3", claims[i].Budget, len(list))
		}
		if err != nil {
			shares[i].Err = err
			continue
		}
		var n [3]int64
		for j := range n {
			n[j], _ = list[j].(int64)
		}
		shares[i] = Share{Tokens: n[0], Part: float64(n[1]) / 1e6, Instances: int(n[2])}
	}
	return shares
}

// ByServer groups budgets by the server that holds them: in one group unless Redis is a cluster.
func (s *Store) ByServer(ctx context.Context, budgets []string) map[string][]string {
	return apart.ByServer(ctx, s.rdb, budgets, s.key)
}

// Leave gives everything held back and ends the instance's part.
func (s *Store) Leave(ctx context.Context, c Claim) error {
	end := s.call(c, 0)
	_, err := s.renew.RunList(ctx, s.rdb, end.Keys, end.Args...)
	return err
}

func (s *Store) call(c Claim, lapse time.Duration) luascript.Call {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	return luascript.Call{Keys: []string{s.key(c.Budget)}, Args: []any{c.Instance, number(c.Rate), number(c.Depth),
		number(c.Demand), c.Held, lapse.Milliseconds(), c.Wants}}
}
