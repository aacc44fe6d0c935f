package inventory_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
)

// calls counts the commands and the round trips of a client.
type calls struct{ trips, commands atomic.Int64 }

func (c *calls) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *calls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.trips.Add(1)
		c.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (c *calls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.trips.Add(1)
		c.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// A round over lines that agree with their sales costs a few questions; the one that does not agree is still put right.
func TestKeeperOfManySales(t *testing.T) {
	eachDatabase(t, func(w *world) {
		const sales = 120 // more than one round trip looks at
		for i := range sales {
			w.create(newSale(fmt.Sprintf("sale-%03d", i), 10, 1))
		}
		w.keep()
		count := &calls{}
		w.rdb.AddHook(count)
		round := func() int64 {
			before := count.trips.Load()
			w.keep()
			return count.trips.Load() - before
		}
		require.LessOrEqual(w.t, round(), int64(5))

		odd := w.lines.Of("sale-077")
		view := func() int64 {
			v, err := odd.View(w.ctx)
			require.NoError(w.t, err)
			return v.Stock
		}
		w.exec("UPDATE stock SET total = total + 5, available = available + 5 WHERE sale_id = 'sale-077'")
		w.exec("UPDATE sales SET version = version + 1 WHERE id = 'sale-077'")
		round()
		require.EqualValues(w.t, 15, view(), "a changed sale")

		require.NoError(w.t, odd.Drop(w.ctx))
		round()
		require.EqualValues(w.t, 15, view(), "a line that is gone")

		w.keeper.SetCaps(inventory.CapPolicy{Cap: 77, MinCap: 1})
		round()
		v, err := odd.View(w.ctx)
		require.NoError(w.t, err)
		require.EqualValues(w.t, 77, v.Cap)
		require.LessOrEqual(w.t, round(), int64(5), "and then they agree again")
	})
}

// However many lines are busy, the book looks at so many at a time, at each in its turn.
func TestBookLooksAtManyLinesInTurn(t *testing.T) {
	w := onSQLite(t)
	const sales = 450
	for i := range sales {
		w.create(newSale(fmt.Sprintf("sale-%03d", i), 10, 1))
	}
	w.keep()
	require.NoError(t, w.book.Refresh(w.ctx))
	w.book.Look(w.ctx)
	for _, e := range w.book.List() {
		require.True(t, e.View().Exists, "at those nobody has looked at yet it looks at once")
	}
	count := &calls{}
	w.rdb.AddHook(count)
	for range 3 {
		w.clock.Advance(100 * time.Millisecond)
		for _, e := range w.book.List() {
			e.Stir(w.clock.Now())
		}
		before := count.commands.Load()
		w.book.Look(w.ctx)
		require.LessOrEqual(t, count.commands.Load()-before, int64(201))
	}
	for i := range sales {
		require.NoError(t, w.lines.Of(fmt.Sprintf("sale-%03d", i)).Drop(w.ctx))
	}
	for range 3 {
		w.clock.Advance(100 * time.Millisecond)
		w.book.Look(w.ctx)
	}
	for _, e := range w.book.List() {
		require.False(t, e.View().Exists, "three looks are enough for all")
	}
}
