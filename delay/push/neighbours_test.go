package push_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/push"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
)

// TestABrokenTopicHarmsNoOther breaks each key of a topic. Messages of another topic are still delivered, reclaimed and
// counted.
func TestABrokenTopicHarmsNoOther(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			for _, name := range []string{"due", "firing", "dead", "messages", "tries", "done"} {
				w := topics.New(t, kind.Addr, tables.New(t, "sqlite"), topics.Config())
				r := providers.NewReceiver(t, providers.AcceptAll)
				broken, well := "a-broken-"+name, "well-"+name
				w.Topic(broken, r.URL)
				w.Topic(well, r.URL)
				w.Add(broken, topics.Message("a", 0))
				w.Add(well, topics.Message("a", 0), topics.Message("later", time.Hour))
				// Its dispatcher died.
				_, err := w.Messages.Claim(t.Context(), w.Own(well), 1)
				require.NoError(t, err)
				firing := w.Key(delay.OwnOf(well), "firing")
				require.NoError(t, w.Redis.Do(t.Context(), "ZADD", firing, "XX", "1", "a").Err())
				w.Overwrite(broken, name)
				reg := prometheus.NewRegistry()
				stop := w.Dispatch(func(p *push.DispatcherParts) { p.Registry = reg })
				require.Equal(t, 2, w.WaitForState(well, "a", delay.Delivered).Attempts, "it was taken over")
				w.Add(well, topics.Message("b", 0))
				w.WaitForState(well, "b", delay.Delivered)
				require.Eventually(t, func() bool {
					return w.Value(reg, "sluice_delay_messages", well, delay.Pending) == 1
				}, topics.Patience, time.Millisecond, "it is counted")
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
	w := topics.Embedded(t)
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("a-broken", r.URL)
	w.Topic("well", r.URL)
	w.Add("a-broken", topics.Message("a", 0))
	w.Overwrite("a-broken", "tries")
	count := &claimCounter{firing: w.Key(delay.OwnOf("a-broken"), "firing")}
	w.Redis.AddHook(count)
	began := time.Now()
	w.Dispatch()
	for i := range 50 {
		id := fmt.Sprint("m-", i)
		w.Add("well", topics.Message(id, 0))
		w.WaitForState("well", id, delay.Delivered)
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
	w := topics.Embedded(t, func(c *delay.Config) { c.Workers, c.PerTopic = 4, 2 })
	r := providers.NewReceiver(t, providers.AcceptAll)
	w.Topic("a-held", r.URL)
	w.Topic("well", r.URL)
	w.Add("a-held", topics.Message("a", 0), topics.Message("b", 0))
	// only results go there
	hold := &keyBlocker{key: w.Key(delay.OwnOf("a-held"), "done"), met: make(chan struct{}, 1),
		gate: make(chan struct{})}
	w.Redis.AddHook(hold)
	w.Dispatch()
	open := sync.OnceFunc(func() { close(hold.gate) })
	t.Cleanup(open) // before the dispatcher stops
	<-hold.met
	for i := range 20 {
		id := fmt.Sprint("m-", i)
		w.Add("well", topics.Message(id, 0))
		w.WaitForState("well", id, delay.Delivered)
	}
	open()
	w.WaitForState("a-held", "a", delay.Delivered)
	w.WaitForState("a-held", "b", delay.Delivered)
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
			w := topics.New(t, c.Nodes[0].Addr(), tables.New(t, "sqlite"), topics.Config())
			w.Use(c.Client(2 * time.Second))
			r := providers.NewReceiver(t, providers.AcceptAll)
			key := func(name string) string { return "{" + name + "}" }
			well := c.On(0, "well", key)
			w.Topic(well, r.URL)
			for _, begin := range []string{"a-lost", "z-lost"} {
				lost := c.On(1, begin, key)
				w.Topic(lost, r.URL)
				w.Add(lost, topics.Message("a", time.Second))
			}
			stop := w.Dispatch()
			t.Cleanup(stop)
			w.Add(well, topics.Message("before", 0))
			w.WaitForState(well, "before", delay.Delivered)
			lose(c)
			for i := range 10 {
				id := fmt.Sprint("m-", i)
				w.Add(well, topics.Message(id, 0))
				w.WaitForState(well, id, delay.Delivered)
			}
		})
	}
}
