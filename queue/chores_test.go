package queue_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// The sweep finds work that nobody announced, and says of what kind it is.
func TestChores(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		idle := boxOn(t, b.rdb, "idle", openSale())
		chores := func() []int64 {
			found, failed := b.lines.Chores(b.ctx, []string{idle.Sale(), b.Sale(), "missing"})
			require.NoError(t, errors.Join(failed...))
			return found
		}
		require.Equal(t, []int64{0, 0, 0}, chores())
		order := b.enqueue(3)
		require.Equal(t, []int64{0, queue.Claimable, 0}, chores())
		batch := b.claim("one", 3)
		require.Equal(t, []int64{0, 0, 0}, chores(), "a worker has them")
		b.expire(batch.ID)
		require.Equal(t, []int64{0, queue.TakeOver, 0}, chores())
		_, _, err := b.Reclaim(b.ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{0, queue.Claimable, 0}, chores(), "as suspects")

		for i := range order {
			again := b.claim(fmt.Sprintf("again-%d", i), 1)
			b.settle(again, queue.OpRetry)
		}
		require.Equal(t, []int64{0, 0, 0}, chores(), "their delay is not over")
		b.due(order[1])
		require.Equal(t, []int64{0, queue.PromoteDue, 0}, chores())

		require.NoError(t, b.rdb.HSet(b.ctx, b.key("leased"), "restored from a backup", order[2]).Err())
		require.Equal(t, []int64{0, queue.TakeOver + queue.PromoteDue, 0}, chores(), "a batch without a lease is nobody's")
	})
}

// Idle lines cost a worker next to nothing, however many there are.
func TestSweepAsksManyLinesAtOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), openSale())
	const lines = 400 // the last is asked in the fourth sweep, behind the one that is counted
	sales := []string{b.Sale()}
	var last *box
	for i := range lines - 1 {
		last = boxOn(t, b.rdb, fmt.Sprintf("idle-%03d", i), openSale())
		sales = append(sales, last.Sale())
	}
	order := last.enqueue(2) // nobody is there yet to hear of it
	count := &testkit.Trips{}
	b.rdb.AddHook(count)
	rounds := make(chan int64, 1000)
	consume(b, quick(), 2, &worker{}, func() []string {
		rounds <- count.Rounds.Load()
		return sales
	})
	<-rounds
	second := <-rounds // the first sweep has loaded the script
	require.LessOrEqual(t, <-rounds-second, int64(5), "round trips of one sweep")
	last.drained()
	confirmedAll(last, order)
}

// A line that cannot be asked holds up none of the others.
func TestChoresOfOneLineThatFails(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), openSale())
	broken := boxOn(t, b.rdb, "broken", openSale())
	b.enqueue(1)
	require.NoError(t, b.rdb.Set(b.ctx, broken.key("wait"), "no list", 0).Err())
	found, failed := b.lines.Chores(b.ctx, []string{broken.Sale(), b.Sale()})
	require.ErrorContains(t, failed[0], "WRONGTYPE")
	require.NoError(t, failed[1])
	require.Equal(t, []int64{0, queue.Claimable}, found)
}
