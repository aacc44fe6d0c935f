package delay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/notify"
	"sluice/notify/webhook"
)

// A reader dies before it acknowledges: another gets the message when the lease has ended, and the dead one's
// acknowledgement comes too late.
func TestAReaderThatDiesLosesItsLease(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.topic("t", "")
		sub := w.subscribe("t", "s", func(c *SubscriptionChange) { c.Retries = new(1) })
		w.add("t", msg("a", 0))
		readers := w.readers()
		dead := w.receive(readers, "s", 0)
		require.Len(t, dead, 1)
		require.Equal(t, 1, dead[0].Attempt)
		require.WithinRange(t, dead[0].Ends, time.Now().Add(50*time.Second), time.Now().Add(61*time.Second))
		require.Empty(t, w.receive(readers, "s", 0), "it is leased")
		w.endLease(sub, "a")
		again := w.receive(readers, "s", 0)
		require.Equal(t, 2, again[0].Attempt)
		for name, call := range map[string]func() ([]bool, error){
			"ack":    func() ([]bool, error) { return readers.Ack(ctx, "s", []string{dead[0].Lease}) },
			"nack":   func() ([]bool, error) { return readers.Nack(ctx, "s", []string{dead[0].Lease}, nil) },
			"extend": func() ([]bool, error) { return readers.Extend(ctx, "s", []string{dead[0].Lease}, time.Hour) },
			"back":   func() ([]bool, error) { return readers.GiveBack(ctx, "s", []string{dead[0].Lease}) },
		} {
			stood, err := call()
			require.NoError(t, err, name)
			require.Equal(t, []bool{false}, stood, name)
		}
		m, err := w.messages.Show(ctx, sub, "a")
		require.NoError(t, err)
		require.Equal(t, Firing, m.State)
		w.endLease(sub, "a")
		m, err = w.messages.Show(ctx, sub, "a")
		require.NoError(t, err)
		require.Equal(t, Dead, m.State, "its attempts are over")
		require.Equal(t, unreported, m.Error)
		require.NoError(t, w.messages.Retry(ctx, sub, "a"))
		last := w.receive(readers, "s", 0)
		lease := last[0].Lease
		stood, err := readers.Ack(ctx, "s", []string{lease, lease, dead[0].Lease})
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, false}, stood, "one that comes twice is acknowledged once")
		counts, failed := w.messages.Count(ctx, []Subscription{sub})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, Counts{}, counts[0])
		w.messages.cfg.MaxMessages = 1
		w.add("t", msg("b", 0))
		_, err = w.publisher().Add(ctx, "t", []New{msg("c", 0)})
		require.ErrorIs(t, err, ErrFull, "the bound counts right")
	})
}

func TestAReaderGivesBackAndExtends(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.topic("t", "")
		sub := w.subscribe("t", "s", func(c *SubscriptionChange) {
			c.Retries, c.RetryUnitMS, c.LeaseMS = new(1), new(time.Minute.Milliseconds()), new(int64(2000))
		})
		w.add("t", msg("a", 0), msg("b", 0), msg("c", 0), msg("d", 0))
		readers := w.readers()
		got := w.receive(readers, "s", 0)
		wait := time.Hour
		due := func(id string) time.Duration {
			m, err := w.messages.Show(ctx, sub, id)
			require.NoError(t, err)
			return time.Until(m.DueAt)
		}
		stood, err := readers.Nack(ctx, "s", []string{got[0].Lease}, &wait)
		require.NoError(t, err)
		require.Equal(t, []bool{true}, stood)
		require.InDelta(t, time.Hour, due("a"), float64(5*time.Second))
		_, err = readers.Nack(ctx, "s", []string{got[1].Lease}, nil)
		require.NoError(t, err)
		require.InDelta(t, time.Minute, due("b"), float64(5*time.Second), "the schedule's")
		stood, err = readers.Extend(ctx, "s", []string{got[2].Lease}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, []bool{true}, stood)
		require.InDelta(t, time.Hour, due("c"), float64(5*time.Second))
		_, err = readers.GiveBack(ctx, "s", []string{got[3].Lease})
		require.NoError(t, err)
		again := w.receive(readers, "s", 0)
		require.Equal(t, []string{"d"}, ids(again))
		require.Equal(t, 1, again[0].Attempt, "it is as it was")

		none := time.Duration(0)
		_, err = readers.Nack(ctx, "s", []string{again[0].Lease}, &none)
		require.NoError(t, err)
		again = w.receive(readers, "s", 0)
		require.Equal(t, 2, again[0].Attempt)
		_, err = readers.Nack(ctx, "s", []string{again[0].Lease}, &none)
		require.NoError(t, err)
		m, err := w.messages.Show(ctx, sub, "d")
		require.NoError(t, err)
		require.Equal(t, Dead, m.State, "it was the last attempt")
		require.Equal(t, []DeadReport{{Subscription: sub, Count: 1, ID: "d", Error: givenBack}}, w.reported())
		require.Equal(t, 1.0, testutil.ToFloat64(readers.counts.settled.WithLabelValues("t", "s", countDead)))
	})
}

func TestWhatReadersMayAskFor(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	ctx := t.Context()
	w.topic("t", "http://a.example")
	w.subscribe("t", "s")
	readers := w.readers()
	good := lease{"a", strings.Repeat("T", tokenSize), 1, 5}.String()
	for field, call := range map[string]func() error{
		"max":       func() error { _, err := readers.Receive(ctx, "s", 1001, 0); return err },
		"wait":      func() error { _, err := readers.Receive(ctx, "s", 1, time.Minute); return err },
		"leases":    func() error { _, err := readers.Ack(ctx, "s", nil); return err },
		"leases[1]": func() error { _, err := readers.Ack(ctx, "s", []string{good, "no lease"}); return err },
		"lease_ms":  func() error { _, err := readers.Extend(ctx, "s", []string{good}, 13*time.Hour); return err },
		"delay_ms": func() error {
			_, err := readers.Nack(ctx, "s", []string{good}, new(-time.Second))
			return err
		},
	} {
		err := call()
		_, bad := errors.AsType[invalid.Error](err)
		require.True(t, bad, "%s: %v", field, err)
		require.ErrorContains(t, err, field)
	}
	_, err := readers.Receive(ctx, "none", 1, 0)
	require.ErrorIs(t, err, ErrNoSubscription)
	_, err = readers.Receive(ctx, "t.default", 1, 0)
	require.ErrorIs(t, err, ErrNotPull)
	_, err = readers.Ack(ctx, "t.default", []string{good})
	require.ErrorIs(t, err, ErrNotPull)
	_, err = w.topics.UpdateSubscription(ctx, "s", SubscriptionChange{Enabled: new(false)}, "ann", "")
	require.NoError(t, err)
	w.add("t", msg("a", 0))
	require.Empty(t, w.receive(readers, "s", 0), "it is off")
}

// scriptCalls counts calls of scripts, alone or in pipelines.
type scriptCalls struct{ n atomic.Int64 }

func (s *scriptCalls) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *scriptCalls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func (s *scriptCalls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.n.Add(1)
		return next(ctx, cmd)
	}
}

// Forty readers wait for the same and for other subscriptions: one look serves them all, and each message goes to one.
func TestReadersWaitTogether(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		w.topic("t", "")
		const each = 10
		for i := range 4 {
			w.subscribe("t", fmt.Sprint("s", i))
		}
		readers := w.readers()
		calls := &scriptCalls{}
		var waiting sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for i := range 4 * each {
			name := fmt.Sprint("s", i%4)
			waiting.Go(func() {
				list, err := readers.Receive(t.Context(), name, 1, MaxWait)
				if err != nil || len(list) != 1 {
					t.Errorf("%d messages, %v", len(list), err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got[name+" "+list[0].ID]++
			})
		}
		require.Eventually(t, func() bool {
			readers.waiting.mu.Lock()
			defer readers.waiting.mu.Unlock()
			n := 0
			for _, list := range readers.waiting.of {
				n += len(list)
			}
			return n == 4*each
		}, patience, time.Millisecond)
		w.rdb.AddHook(calls)
		began := time.Now()
		require.Eventually(t, func() bool { return calls.n.Load() >= 5 }, patience, time.Millisecond, "they look")
		looks := time.Since(began)/w.cfg.Poll + 2
		require.LessOrEqual(t, calls.n.Load(), int64(looks), "all are looked for in one call")
		for i := range each {
			w.add("t", msg(fmt.Sprint("m", i), 0))
		}
		waiting.Wait()
		require.Len(t, got, 4*each)
		for key, n := range got {
			require.Equal(t, 1, n, key)
		}
		require.Eventually(t, func() bool {
			readers.waiting.mu.Lock()
			defer readers.waiting.mu.Unlock()
			return !readers.waiting.looking
		}, patience, time.Millisecond, "nobody waits any more")
	})
}

func TestAWaitEnds(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	w.topic("t", "")
	w.subscribe("t", "s")
	readers := w.readers()
	require.Empty(t, w.receive(readers, "s", 20*time.Millisecond))
	w.add("t", msg("soon", 30*time.Millisecond))
	require.Equal(t, []string{"soon"}, ids(w.receive(readers, "s", MaxWait)))
	ended := make(chan error, 1)
	go func() {
		_, err := readers.Receive(context.Background(), "s", 1, MaxWait)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		readers.waiting.mu.Lock()
		defer readers.waiting.mu.Unlock()
		return len(readers.waiting.of) == 1
	}, patience, time.Millisecond)
	require.NoError(t, w.topics.DeleteSubscription(t.Context(), Deletion{Name: "s", GiveUp: true}, "ann", ""))
	require.ErrorIs(t, <-ended, ErrNoSubscription)
}

// afterClaim does something when a claim is answered, before its caller hears of it.
type afterClaim struct {
	firing string
	do     func() error
}

func (a afterClaim) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a afterClaim) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a afterClaim) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		args := cmd.Args() // claim.lua has five keys
		if err == nil && len(args) > 4 && args[2] == 5 && args[4] == a.firing {
			return a.do()
		}
		return err
	}
}

// What was claimed for somebody who hung up, or whose answer was lost, is as it was (case D15).
func TestWhatNobodyGotIsHandedBack(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		w.topic("t", "")
		sub := w.subscribe("t", "s", func(c *SubscriptionChange) { c.Retries = new(0) })
		w.add("t", msg("a", 0), msg("b", 0))
		readers := w.readers()
		ctx, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		lost := errors.New("the connection broke")
		act := func() error { hangUp(); return nil }
		w.rdb.AddHook(afterClaim{w.messages.keysOf(sub).firing, func() error { return act() }})
		_, err := readers.Receive(ctx, "s", 10, MaxWait)
		require.ErrorIs(t, err, context.Canceled)
		act = func() error { return lost }
		_, err = readers.Receive(t.Context(), "s", 10, 0)
		require.ErrorIs(t, err, lost)
		act = func() error { return nil }
		got := w.receive(readers, "s", 0)
		require.Equal(t, []string{"a", "b"}, ids(got))
		require.Equal(t, 1, got[0].Attempt)
	})
}

func TestASimpleReceiverGetsTheMessageInTheQuery(t *testing.T) {
	t.Parallel()
	w := embeddedWorld(t)
	queries := make(chan url.Values, 1)
	r := newReceiver(t, func(rw http.ResponseWriter, req *http.Request) {
		queries <- req.URL.Query()
		acceptAll(rw, req)
	})
	w.topic("t", "")
	sub := w.subscribe("t", "s", func(c *SubscriptionChange) { c.URL, c.Method = new(r.URL+"/hook?key=1"), new("GET") })
	w.startDispatcher()
	w.add("t", msg("a", 0))
	query := <-queries
	require.Equal(t, url.Values{"key": {"1"}, "id": {"a"}, "topic": {"t"}, "attempt": {"1"}, "body": {`{"n":"a"}`}},
		query)
	call := r.allCalls()[0]
	require.Equal(t, "GET", call.method)
	require.Empty(t, call.body)
	require.Equal(t, "s", call.header.Get("Sluice-Subscription"))
	verifier, err := webhook.NewVerifier(time.Now, sub.Secret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(call.header, []byte(query.Get("body"))))
}

func TestMessagesAreListedByState(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.topic("t", "")
		sub := w.subscribe("t", "s", func(c *SubscriptionChange) { c.Retries = new(0) })
		readers := w.readers()
		w.add("t", msg("done-1", 0), msg("done-2", 0), msg("dead-1", 0), msg("dead-2", 0), msg("run", 0))
		for _, l := range w.receive(readers, "s", 0) {
			kind, _, _ := strings.Cut(l.ID, "-")
			var err error
			switch kind {
			case "done":
				_, err = readers.Ack(ctx, "s", []string{l.Lease})
			case "dead":
				_, err = readers.Nack(ctx, "s", []string{l.Lease}, nil)
			}
			require.NoError(t, err)
		}
		require.NoError(t, w.messages.Drop(ctx, sub, "dead-1"))
		w.add("t", msg("later", time.Hour), msg("soon", time.Minute), msg("off", time.Hour))
		require.NoError(t, w.messages.Cancel(ctx, sub, "off"))
		for state, want := range map[string][]string{ListWaiting: {"soon", "later"}, ListRunning: {"run"},
			ListFailed: {"dead-2", "dead-1"}, ListCancelled: {"off"}} {
			var found []string
			for skip := int64(0); ; {
				page, err := w.messages.List(ctx, sub, Listing{State: state, Skip: skip, Limit: 1})
				require.NoError(t, err)
				for _, m := range page.Messages {
					found = append(found, m.ID)
				}
				if skip = page.Next; skip == 0 {
					break
				}
			}
			require.Equal(t, want, found, state)
		}
		page, err := w.messages.List(ctx, sub, Listing{State: ListComplete, Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Messages, 2)
		require.Zero(t, page.Next)
		_, err = w.messages.List(ctx, sub, Listing{State: "eaten"})
		require.ErrorContains(t, err, "state must be one of")
	})
}

// Nobody can take the id of an order's event by hand, and one that is taken holds up no other event (case I12).
func TestOneConflictHoldsUpNoOtherEvent(t *testing.T) {
	onBothServers(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.topic("t", "http://a.example", func(c *Change) { c.Events = &[]string{"order.paid"} })
		for id, reserved := range map[string]bool{"o1:order.paid": true, "o1:order.refund_required": true,
			"o1:order.2": false, "order.paid": false} {
			_, err := w.publisher().Add(ctx, "t", []New{msg(id, time.Hour)})
			_, refused := errors.AsType[invalid.Error](err)
			require.Equal(t, reserved, refused, "%s: %v", id, err)
		}
		_, err := w.messages.Add(ctx, "t", []New{msg("o2:order.paid", 0)}) // by an older build
		require.NoError(t, err)
		var events []notify.Message
		for _, id := range []string{"o1", "o2", "o3"} {
			events = append(events, notify.Message{OrderID: id, Event: "order.paid", SaleID: "s",
				CreatedAt: time.Now()})
		}
		results := NewEvents(w.topics, w.messages).Deliver(ctx, events)
		require.Equal(t, notify.Delivered(), results[0])
		require.True(t, results[1].IsPermanent(), results[1].Failure())
		require.Equal(t, notify.Delivered(), results[2])
		require.Equal(t, Pending, w.show("t", "o3:order.paid").State)
	})
}
