package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/queue"
)

// A worker that outlives its lease cannot touch what another has taken over.
func TestBlockedConsumerIsFenced(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), openSale())
	order := b.enqueue(5)
	c := quick()
	c.Lease = 2 * time.Second
	blocked, free := make(chan struct{}), make(chan struct{})
	late := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if !batch.Solo {
			close(blocked)
			<-free
			return all(batch, queue.OpDead), nil // would destroy what the other has done
		}
		return all(batch, queue.OpConfirm), nil
	}}
	stopLate := consume(b, c, 1, late, nil)
	<-blocked
	other := &recorder{}
	consume(b, c, 1, other, nil)
	b.drained()
	confirmedAll(b, order)
	before := b.view()
	close(free)
	stopLate()
	after := b.view()
	require.Equal(t, []int64{before.Stock, before.Served, 0}, []int64{after.Stock, after.Served, after.Dead})
	confirmedAll(b, order)
	require.ElementsMatch(t, order, other.seen(), "each was taken over once")
	b.conserved(3)
}

// Nobody hears of these tickets: the sweep finds them.
func TestLostWakeMessagesAreMadeUpFor(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), openSale())
	order := b.enqueue(5) // announced before anybody listens
	w := &recorder{}
	consume(b, quick(), 2, w, nil)
	b.drained()
	for i := range 5 {
		// A record and its entry in the list appear without any message.
		id := fmt.Sprint("silent-", i)
		record := confirmed(id, id, b.view().Seq+1)
		record.State = queue.Queued
		pipe := b.rdb.TxPipeline()
		pipe.HSet(b.ctx, b.key("orders"), id, record.Record())
		pipe.HSet(b.ctx, b.key("holders"), id, id+":1:1")
		pipe.Decr(b.ctx, b.key("stock"))
		pipe.HIncrBy(b.ctx, b.key("meta"), "seq", 1)
		pipe.LPush(b.ctx, b.key("wait"), id)
		_, err := pipe.Exec(b.ctx)
		require.NoError(t, err)
		order = append(order, id)
		b.drained()
	}
	// The connection that listens breaks; it comes back or the sweep helps.
	require.NoError(t, b.rdb.Do(b.ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err())
	order = append(order, b.enqueue(5)...)
	b.drained()
	confirmedAll(b, order)
}

// A line that is never empty does not hold up another.
func TestHotLineStarvesNoOther(t *testing.T) {
	t.Parallel()
	rdb := testkit.ProductClient(t, testkit.Embedded(t).Addr())
	hot, cold := boxOn(t, rdb, "hot", openSale()), boxOn(t, rdb, "cold", openSale())
	hot.enqueue(900)
	cold.enqueue(1)
	var looks atomic.Int32
	swept := make(chan struct{})
	sales := func() []string {
		if looks.Add(1) == 2 {
			close(swept) // the first sweep has been through both lines
		}
		return []string{"hot", "cold"}
	}
	var mu sync.Mutex
	var turns []string
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		<-swept
		mu.Lock()
		turns = append(turns, batch.Sale)
		mu.Unlock()
		return all(batch, queue.OpConfirm), nil
	}}
	stop := consume(hot, quick(), 1, w, sales)
	hot.drained()
	cold.drained()
	stop()
	// One worker has a hot batch, the dispatcher holds another: then it is the other line's turn.
	at := slices.Index(turns, "cold")
	require.GreaterOrEqual(t, at, 0)
	require.LessOrEqual(t, at, 3, "%v", turns)
	require.Len(t, turns, 91)
}

// Redis dies while a batch runs and while others wait: everything goes on by itself.
func TestConsumerSurvivesARedisCrash(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	b := newBox(t, server.Addr(), openSale())
	order := b.enqueue(50)
	running, goOn := make(chan struct{}, 100), make(chan struct{})
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		running <- struct{}{}
		<-goOn
		return all(batch, queue.OpConfirm), nil
	}}
	var looks atomic.Int32
	stop := consume(b, quick(), 2, w, func() []string { looks.Add(1); return []string{b.Sale()} })
	<-running
	<-running
	server.Kill()
	close(goOn)
	since := looks.Load()
	require.Eventually(t, func() bool { return looks.Load() > since+1 }, soon, time.Millisecond, "it keeps looking")
	server.Start()
	require.Eventually(t, func() bool { return b.rdb.Ping(b.ctx).Err() == nil }, soon, time.Millisecond)
	b.rebuild(2, nil)
	order = append(order, b.enqueue(50)...)
	b.drained()
	stop()
	confirmedAll(b, order)
	seen := w.seen()
	slices.Sort(seen)
	require.Equal(t, order, slices.Compact(seen),
		"what was done before the crash is run again after it: its settle is fenced")
	require.Empty(t, b.attempts())
}

// A worker dies with many tickets: most pass in groups, and the one that kills every batch ends alone.
func TestAfterADeathManyPassInGroups(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(1000)
		b.claim("dead", 1000)
		b.expire("dead")
		var batches atomic.Int32
		w := &recorder{}
		w.handle = func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			batches.Add(1)
			if slices.ContainsFunc(batch.Tickets, func(t queue.Ticket) bool { return t.ID == order[7] }) {
				panic("poison")
			}
			return all(batch, queue.OpConfirm), nil
		}
		c := quick()
		c.Batch, c.MaxAttempts = 500, 3
		consume(b, c, 2, w, nil)
		b.drained()
		confirmedAll(b, append(slices.Clone(order[:7]), order[8:]...))
		require.Equal(t, []string{order[7]}, b.rdb.LRange(b.ctx, b.key("dead"), 0, -1).Val())
		require.LessOrEqual(t, batches.Load(), int32(8+100+200+2),
			"eight groups, the tickets of one of them alone, the last two hundred alone")
	})
}

// What was claimed in parts goes back as it was: nobody overtakes anybody because a store was away.
func TestPartsGoBackInTheirOrder(t *testing.T) {
	eachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, openSale())
		order := b.enqueue(9)
		away := &recorder{handle: func(context.Context, queue.Batch) ([]queue.Outcome, error) {
			return nil, errors.New("the database is away")
		}}
		consumer := b.consumer(quick(), 1, away, func() []string { return []string{b.Sale()} })
		consumer.Finish(b.ctx, b.Line, []queue.Batch{b.claim("first", 4), b.claim("second", 3)})
		require.Equal(t, order, b.list("wait"))
		b.run(consumer)()
	})
}
