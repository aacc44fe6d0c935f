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
	"sluice/internal/testkit/queues"
	"sluice/queue"
)

// A worker that outlives its lease cannot touch what another has taken over.
func TestBlockedConsumerIsFenced(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Embedded(t).Addr(), queues.OpenSale())
	order := b.Enqueue(5)
	c := quick()
	c.Lease = 2 * time.Second
	blocked, free := make(chan struct{}), make(chan struct{})
	late := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		if !batch.Solo {
			close(blocked)
			<-free
			return queues.Outcomes(batch, queue.OpDead), nil // would destroy what the other has done
		}
		return queues.Outcomes(batch, queue.OpConfirm), nil
	}}
	stopLate := consume(b, c, 1, late, nil)
	<-blocked
	other := &recorder{}
	consume(b, c, 1, other, nil)
	b.drained()
	confirmedAll(b, order)
	before := b.MustView()
	close(free)
	stopLate()
	after := b.MustView()
	require.Equal(t, []int64{before.Stock, before.Served, 0}, []int64{after.Stock, after.Served, after.Dead})
	confirmedAll(b, order)
	require.ElementsMatch(t, order, other.seen(), "each was taken over once")
	b.CheckUnits(3)
}

// Nobody hears of these tickets: the sweep finds them.
func TestLostWakeMessagesAreMadeUpFor(t *testing.T) {
	t.Parallel()
	b := newBox(t, testkit.Redis(t).Addr(), queues.OpenSale())
	order := b.Enqueue(5) // announced before anybody listens
	w := &recorder{}
	consume(b, quick(), 2, w, nil)
	b.drained()
	for i := range 5 {
		// A record and its entry in the list appear without any message.
		id := fmt.Sprint("silent-", i)
		record := queues.Confirmed(id, id, b.MustView().Seq+1)
		record.State = queue.Queued
		pipe := b.Redis.TxPipeline()
		pipe.HSet(b.Ctx, b.Key("orders"), id, record.Record())
		pipe.HSet(b.Ctx, b.Key("holders"), id, id+":1:1")
		pipe.Decr(b.Ctx, b.Key("stock"))
		pipe.HIncrBy(b.Ctx, b.Key("meta"), "seq", 1)
		pipe.LPush(b.Ctx, b.Key("wait"), id)
		_, err := pipe.Exec(b.Ctx)
		require.NoError(t, err)
		order = append(order, id)
		b.drained()
	}
	// The connection that listens breaks; it comes back or the sweep helps.
	require.NoError(t, b.Redis.Do(b.Ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err())
	order = append(order, b.Enqueue(5)...)
	b.drained()
	confirmedAll(b, order)
}

// A line that is never empty does not hold up another.
func TestHotLineStarvesNoOther(t *testing.T) {
	t.Parallel()
	rdb := testkit.ProductClient(t, testkit.Embedded(t).Addr())
	hot, cold := boxOn(t, rdb, "hot", queues.OpenSale()), boxOn(t, rdb, "cold", queues.OpenSale())
	hot.Enqueue(900)
	cold.Enqueue(1)
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
		return queues.Outcomes(batch, queue.OpConfirm), nil
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
	b := newBox(t, server.Addr(), queues.OpenSale())
	order := b.Enqueue(50)
	running, goOn := make(chan struct{}, 100), make(chan struct{})
	w := &recorder{handle: func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
		running <- struct{}{}
		<-goOn
		return queues.Outcomes(batch, queue.OpConfirm), nil
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
	require.Eventually(t, func() bool { return b.Redis.Ping(b.Ctx).Err() == nil }, soon, time.Millisecond)
	b.Rebuild(2, nil)
	order = append(order, b.Enqueue(50)...)
	b.drained()
	stop()
	confirmedAll(b, order)
	seen := w.seen()
	slices.Sort(seen)
	require.Equal(t, order, slices.Compact(seen),
		"what was done before the crash is run again after it: its settle is fenced")
	require.Empty(t, b.Attempts())
}

// A worker dies with many tickets: most pass in groups, and the one that kills every batch ends alone.
func TestAfterADeathManyPassInGroups(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(1000)
		b.MustClaim("dead", 1000)
		b.EndLease("dead")
		var batches atomic.Int32
		w := &recorder{}
		w.handle = func(_ context.Context, batch queue.Batch) ([]queue.Outcome, error) {
			batches.Add(1)
			if slices.ContainsFunc(batch.Tickets, func(t queue.Ticket) bool { return t.ID == order[7] }) {
				panic("poison")
			}
			return queues.Outcomes(batch, queue.OpConfirm), nil
		}
		c := quick()
		c.Batch, c.MaxAttempts = 500, 3
		consume(b, c, 2, w, nil)
		b.drained()
		confirmedAll(b, append(slices.Clone(order[:7]), order[8:]...))
		require.Equal(t, []string{order[7]}, b.Redis.LRange(b.Ctx, b.Key("dead"), 0, -1).Val())
		require.LessOrEqual(t, batches.Load(), int32(8+100+200+2),
			"eight groups, the tickets of one of them alone, the last two hundred alone")
	})
}

// What was claimed in parts goes back as it was: nobody overtakes anybody because a store was away.
func TestPartsGoBackInTheirOrder(t *testing.T) {
	queues.EachRedis(t, func(t *testing.T, addr string) {
		b := newBox(t, addr, queues.OpenSale())
		order := b.Enqueue(9)
		away := &recorder{handle: func(context.Context, queue.Batch) ([]queue.Outcome, error) {
			return nil, errors.New("the database is away")
		}}
		consumer := b.consumer(quick(), 1, away, func() []string { return []string{b.Sale()} })
		consumer.Finish(b.Ctx, b.Line, []queue.Batch{b.MustClaim("first", 4), b.MustClaim("second", 3)})
		require.Equal(t, order, b.List("wait"))
		b.run(consumer)()
	})
}
