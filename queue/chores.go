package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// chores are what there is to do in a line that nobody has announced.
type chores int64

// As lua/chores.lua adds them up.
const (
	claimable  chores = 1 << iota // tickets wait for a worker
	takeOver                      // a lease has run out
	promoteDue                    // the delay of a retry is over
)

// chores asks several lines in one round trip; the answers are in the order of sales.
func (ls *Lines) chores(ctx context.Context, sales []string) ([]chores, error) {
	pipe := ls.rdb.Pipeline()
	replies := make([]*redis.Cmd, len(sales))
	for i, sale := range sales {
		replies[i] = pipe.EvalSha(ctx, ls.scripts.chores.sha, lineKeys(sale).chores())
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	found := make([]chores, len(sales))
	for i, sale := range sales {
		n, err := replies[i].Int64()
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			n, err = ls.scripts.chores.runInt(ctx, ls.rdb, lineKeys(sale).chores())
		}
		if err != nil {
			return nil, fmt.Errorf("ask the line of %s for chores: %w", sale, err)
		}
		found[i] = chores(n)
	}
	return found, nil
}

func (k keys) chores() []string { return []string{k.wait, k.suspect, k.lease, k.leased, k.retry} }
