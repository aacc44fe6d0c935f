package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/internal/apart"
	"sluice/internal/luascript"
)

// Budgets keeps rates that several instances spend together: each leases
// tokens for a short while and spends them without asking. Over any time T at
// most rate × T + depth tokens are dealt, however many instances there are. What
// no instance wants lies in Redis, for whoever comes first.
// Safe for concurrent use.
type Budgets struct {
	names
	rdb   redis.UniversalClient
	share luascript.Script
}

// NewBudgets returns the budgets kept in rdb under a prefix, redis.prefix.
func NewBudgets(rdb redis.UniversalClient, prefix string) *Budgets {
	return &Budgets{names: namesOf(prefix), rdb: rdb, share: newLibrary().Load("budget")}
}

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
	// why it got none. Tokens may have been dealt; they are then lost until the instance lapses or
	// renews
	Err error
}

// Renew deals an instance its shares of several budgets in one round trip, in the order of claims,
// each by itself: one after the other, sixty-four of them would outlast their own leases on a Redis
// that waits for its disk.
func (b *Budgets) Renew(ctx context.Context, claims []Claim) []Share {
	calls := make([]luascript.Call, len(claims))
	for i, c := range claims {
		calls[i] = b.call(c, c.Lapse)
	}
	shares := make([]Share, len(claims))
	for i, a := range b.share.RunEach(ctx, b.rdb, calls) {
		list, err := a.List()
		if err == nil && len(list) != 3 {
			err = fmt.Errorf("budget %s answered %d values, not 3", claims[i].Budget, len(list))
		}
		if err != nil {
			shares[i].Err = err
			continue
		}
		shares[i] = Share{Tokens: toInt(list[0]), Part: float64(toInt(list[1])) / 1e6, Instances: int(toInt(list[2]))}
	}
	return shares
}

// ByServer groups budgets by the server that holds them, as Lines.ByServer does for lines.
func (b *Budgets) ByServer(ctx context.Context, budgets []string) map[string][]string {
	return apart.ByServer(ctx, b.rdb, budgets, b.budgetKey)
}

// Leave gives everything held back and ends the instance's part.
func (b *Budgets) Leave(ctx context.Context, c Claim) error {
	end := b.call(c, 0)
	_, err := b.share.RunList(ctx, b.rdb, end.Keys, end.Args...)
	return err
}

func (b *Budgets) call(c Claim, lapse time.Duration) luascript.Call {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	return luascript.Call{Keys: []string{b.budgetKey(c.Budget)},
		Args: []any{c.Instance, number(c.Rate), number(c.Depth), number(c.Demand), c.Held, lapse.Milliseconds(),
			c.Wants}}
}
