package delay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/notify"
)

// Each test here puts a broken topic beside a healthy one and checks the healthy one.

// overwrite replaces a key of a topic by one of a type that no script expects.
func (w *world) overwrite(topic, name string) {
	w.t.Helper()
	key := fmt.Sprintf("sluice:delay:{%s}:%s", topic, name)
	require.NoError(w.t, w.rdb.Del(w.t.Context(), key).Err())
	require.NoError(w.t, w.rdb.Set(w.t.Context(), key, "of a wrong type", 0).Err())
}

// TestABrokenTopicHarmsNoOther breaks each key of a topic. Messages of another topic are still delivered, reclaimed and
// counted.
func TestABrokenTopicHarmsNoOther(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			for _, name := range []string{"due", "firing", "dead", "messages", "tries", "done"} {
				w := newWorld(t, kind.Addr, tables.New(t, "sqlite"), testConfig())
				r := newReceiver(t, acceptAll)
				broken, well := "a-broken-"+name, "well-"+name
				w.topic(broken, r.URL)
				w.topic(well, r.URL)
				w.add(broken, msg("a", 0))
				w.add(well, msg("a", 0), msg("later", time.Hour))
				// Its dispatcher died.
				_, err := w.messages.claim(t.Context(), w.own(well), 1)
				require.NoError(t, err)
				firing := w.messages.keysOf(ownOf(well)).firing
				require.NoError(t, w.rdb.Do(t.Context(), "ZADD", firing, "XX", "1", "a").Err())
				w.overwrite(broken, name)
				f, stop := w.startDispatcher()
				require.Equal(t, 2, w.waitForState(well, "a", Delivered).Attempts, "it was taken over")
				w.add(well, msg("b", 0))
				w.waitForState(well, "b", Delivered)
				require.Eventually(t, func() bool {
					return testutil.ToFloat64(f.metrics.messages.WithLabelValues(well, Pending)) == 1
				}, patience, time.Millisecond, "it is counted")
				stop()
			}
		})
	}
}

// claimCounter is a Redis hook that counts the claims for one topic.
type claimCounter struct {
	firing string
	made   atomic.Int64
}

func (c *claimCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *claimCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *claimCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); len(args) > 4 && args[4] == c.firing && strings.HasPrefix(cmd.Name(), "evalsha") {
			c.made.Add(1)
		}
		return next(ctx, cmd)
	}
}

// TestATopicThatFailsIsSetApart checks that a topic whose claims fail is tried less and less often and delays no other.
func TestATopicThatFailsIsSetApart(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	r := newReceiver(t, acceptAll)
	w.topic("a-broken", r.URL)
	w.topic("well", r.URL)
	w.add("a-broken", msg("a", 0))
	w.overwrite("a-broken", "tries")
	count := &claimCounter{firing: w.messages.keysOf(ownOf("a-broken")).firing}
	w.rdb.AddHook(count)
	began := time.Now()
	w.startDispatcher()
	for i := range 50 {
		id := fmt.Sprint("m-", i)
		w.add("well", msg(id, 0))
		w.waitForState("well", id, Delivered)
	}
	// Pauses between its claims double from 10 ms: twelve of them take 20 seconds.
	require.Positive(t, count.made.Load())
	require.Less(t, float64(count.made.Load()), 9+time.Since(began).Seconds())
}

// keyBlocker is a Redis hook that delays every call that names a key until the gate opens.
type keyBlocker struct {
	key  string
	met  chan struct{}
	gate chan struct{}
}

func (h *keyBlocker) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *keyBlocker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *keyBlocker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if slices.Contains(cmd.Args(), any(h.key)) {
			select {
			case h.met <- struct{}{}:
			default:
			}
			<-h.gate
		}
		return next(ctx, cmd)
	}
}

// TestResultsThatCannotBeStoredHoldUpNoOther checks that they do not use up the slots of other topics.
func TestResultsThatCannotBeStoredHoldUpNoOther(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t, func(c *Config) { c.Workers, c.PerTopic = 4, 2 })
	r := newReceiver(t, acceptAll)
	w.topic("a-held", r.URL)
	w.topic("well", r.URL)
	w.add("a-held", msg("a", 0), msg("b", 0))
	// only results go there
	hold := &keyBlocker{key: w.messages.keysOf(ownOf("a-held")).done, met: make(chan struct{}, 1),
		gate: make(chan struct{})}
	w.rdb.AddHook(hold)
	w.startDispatcher()
	open := sync.OnceFunc(func() { close(hold.gate) })
	t.Cleanup(open) // before the dispatcher stops
	<-hold.met
	for i := range 20 {
		id := fmt.Sprint("m-", i)
		w.add("well", msg(id, 0))
		w.waitForState("well", id, Delivered)
	}
	open()
	w.waitForState("a-held", "a", Delivered)
	w.waitForState("a-held", "b", Delivered)
}

// TestARecordThatWasOverwrittenHarmsNoOther checks that such a message ends like the others of its batch.
func TestARecordThatWasOverwrittenHarmsNoOther(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.add("t", msg("a", 0), msg("b", 0), msg("c", 0))
		claimed, err := w.messages.claim(ctx, w.own("t"), 10)
		require.NoError(t, err)
		require.Len(t, claimed, 3)
		require.NoError(t, w.rdb.HSet(ctx, w.messages.keysOf(ownOf("t")).messages, "b", "garbage").Err())
		var outcomes []outcome
		for _, d := range claimed {
			op := byte(opDelivered)
			if d.ID == "c" {
				op = opDead
			}
			outcomes = append(outcomes, outcome{ID: d.ID, token: d.token, op: op, err: "no answer"})
		}
		stored, err := w.messages.settle(ctx, w.own("t"), outcomes)
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, true}, stored)
		require.Equal(t, Delivered, w.show("t", "a").State)

		require.NoError(t, w.rdb.HSet(ctx, w.messages.keysOf(ownOf("t")).messages, "c", "garbage").Err())
		dead, err := w.messages.DeadLetters(ctx, ownOf("t"), 0, 10)
		require.NoError(t, err)
		require.Len(t, dead, 1, "it is listed all the same")
		require.Contains(t, dead[0].Error, "not readable")
		_, err = w.messages.Show(ctx, ownOf("t"), "c")
		require.ErrorContains(t, err, "not readable")
	})
}

// TestOrderEventsPassABrokenTopic checks that order events reach healthy topics when another is broken.
func TestOrderEventsPassABrokenTopic(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	for _, name := range []string{"a-broken", "well", "z-broken"} {
		w.topic(name, "http://a.example", func(c *Change) { c.Events = &[]string{"order.paid"} })
	}
	w.overwrite("a-broken", "messages")
	w.overwrite("z-broken", "due")
	at := time.Now()
	results := NewEvents(w.topics, w.messages).Deliver(t.Context(), []notify.Message{
		{OrderID: "o1", Event: "order.paid", CreatedAt: at}, {OrderID: "o2", Event: "order.confirmed", CreatedAt: at}})
	require.Contains(t, results[0].Failure(), "broken")
	require.Equal(t, notify.Delivered(), results[1])
	require.Equal(t, Pending, w.show("well", "o1:order.paid").State)
}

// TestAMasterThatIsGoneHarmsNoOtherTopics checks that topics on a hanging or dead master delay no others.
func TestAMasterThatIsGoneHarmsNoOtherTopics(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(c *testkit.SmallCluster){
		"killed": func(c *testkit.SmallCluster) { c.Nodes[1].Kill() },
		"hung":   func(c *testkit.SmallCluster) { c.Hang(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testkit.NewSmallCluster(t)
			w := newWorld(t, c.Nodes[0].Addr(), tables.New(t, "sqlite"), testConfig())
			rdb := c.Client(2 * time.Second)
			w.messages = NewStore(StoreParts{Config: w.cfg, Redis: rdb, Prefix: "sluice",
				Durable: func() error { return nil }, Now: time.Now})
			w.topics = NewTopics(TopicsParts{Config: w.cfg, DB: w.db, Messages: w.messages,
				Events: []string{"order.paid"}, Log: quiet(), Now: time.Now})
			r := newReceiver(t, acceptAll)
			key := func(name string) string { return "{" + name + "}" }
			well := c.On(0, "well", key)
			w.topic(well, r.URL)
			for _, begin := range []string{"a-lost", "z-lost"} {
				lost := c.On(1, begin, key)
				w.topic(lost, r.URL)
				w.add(lost, msg("a", time.Second))
			}
			_, stop := w.startDispatcher()
			t.Cleanup(stop)
			w.add(well, msg("before", 0))
			w.waitForState(well, "before", Delivered)
			lose(c)
			for i := range 10 {
				id := fmt.Sprint("m-", i)
				w.add(well, msg(id, 0))
				w.waitForState(well, id, Delivered)
			}
		})
	}
}
