package pull_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/delay/pull"
	"sluice/internal/invalid"
	"sluice/internal/testkit/topics"
)

// A reader dies before it acknowledges: another gets the message when the lease has ended, and the dead one's
// acknowledgement comes too late.
func TestAReaderThatDiesLosesItsLease(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "")
		sub := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) { c.Retries = new(1) })
		w.Add("t", topics.Message("a", 0))
		readers := w.Readers()
		dead := w.Receive(readers, "s", 0)
		require.Len(t, dead, 1)
		require.Equal(t, 1, dead[0].Attempt)
		require.WithinRange(t, dead[0].Ends, time.Now().Add(50*time.Second), time.Now().Add(61*time.Second))
		require.Empty(t, w.Receive(readers, "s", 0), "it is leased")
		w.EndLease(sub, "a")
		again := w.Receive(readers, "s", 0)
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
		m, err := w.Messages.Show(ctx, sub, "a")
		require.NoError(t, err)
		require.Equal(t, delay.Firing, m.State)
		w.EndLease(sub, "a")
		m, err = w.Messages.Show(ctx, sub, "a")
		require.NoError(t, err)
		require.Equal(t, delay.Dead, m.State, "its attempts are over")
		require.Equal(t, message.Unreported, m.Error)
		require.NoError(t, w.Messages.Retry(ctx, sub, "a"))
		last := w.Receive(readers, "s", 0)
		lease := last[0].Lease
		stood, err := readers.Ack(ctx, "s", []string{lease, lease, lease + "\n", dead[0].Lease})
		require.NoError(t, err)
		require.Equal(t, []bool{true, true, true, false}, stood, "one that comes twice is acknowledged once")
		page, err := w.Messages.List(ctx, sub, message.Listing{State: message.ListComplete, Limit: 10})
		require.NoError(t, err)
		require.Len(t, page.Messages, 1, "and is remembered once")
		counts, failed := w.Messages.Count(ctx, []delay.Subscription{sub})
		require.NoError(t, errors.Join(failed...))
		require.Equal(t, message.Counts{}, counts[0])
		small := publish.New(w.Topics, w.Store(func(p *message.StoreParts) { p.Config.MaxMessages = 1 }))
		w.Add("t", topics.Message("b", 0))
		_, err = small.Add(ctx, "t", []delay.New{topics.Message("c", 0)})
		require.ErrorIs(t, err, delay.ErrFull, "the bound counts right")
	})
}

func TestAReaderGivesBackAndExtends(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		ctx := t.Context()
		w.Topic("t", "")
		sub := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) {
			c.Retries, c.RetryUnitMS, c.LeaseMS = new(1), new(time.Minute.Milliseconds()), new(int64(2000))
		})
		w.Add("t", topics.Message("a", 0), topics.Message("b", 0), topics.Message("c", 0), topics.Message("d", 0))
		reg := prometheus.NewRegistry()
		readers := w.Readers(func(p *pull.ReadersParts) { p.Registry = reg })
		got := w.Receive(readers, "s", 0)
		wait := time.Hour
		due := func(id string) time.Duration {
			m, err := w.Messages.Show(ctx, sub, id)
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
		again := w.Receive(readers, "s", 0)
		require.Equal(t, []string{"d"}, topics.IDs(again))
		require.Equal(t, 1, again[0].Attempt, "it is as it was")

		none := time.Duration(0)
		_, err = readers.Nack(ctx, "s", []string{again[0].Lease}, &none)
		require.NoError(t, err)
		again = w.Receive(readers, "s", 0)
		require.Equal(t, 2, again[0].Attempt)
		_, err = readers.Nack(ctx, "s", []string{again[0].Lease}, &none)
		require.NoError(t, err)
		m, err := w.Messages.Show(ctx, sub, "d")
		require.NoError(t, err)
		require.Equal(t, delay.Dead, m.State, "it was the last attempt")
		require.Equal(t, []message.DeadReport{{Subscription: sub, Count: 1, ID: "d", Error: pull.GivenBack}}, w.Dead())
		require.Equal(t, 1.0, w.Value(reg, "sluice_subscription_read_total", "s", message.CountDead))
	})
}

func TestWhatReadersMayAskFor(t *testing.T) {
	t.Parallel()
	w := topics.Embedded(t)
	ctx := t.Context()
	w.Topic("t", "http://a.example")
	w.Subscribe("t", "s")
	readers := w.Readers()
	good := pull.LeaseText(message.Lease{ID: "a", Token: strings.Repeat("T", message.TokenSize), Attempt: 1, Due: 5})
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
	require.ErrorIs(t, err, delay.ErrNoSubscription)
	_, err = readers.Receive(ctx, "t.default", 1, 0)
	require.ErrorIs(t, err, delay.ErrNotPull)
	_, err = readers.Ack(ctx, "t.default", []string{good})
	require.ErrorIs(t, err, delay.ErrNotPull)
	_, err = w.Topics.UpdateSubscription(ctx, "s", delay.SubscriptionChange{Enabled: new(false)}, "ann", "")
	require.NoError(t, err)
	w.Add("t", topics.Message("a", 0))
	require.Empty(t, w.Receive(readers, "s", 0), "it is off")
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
		args := cmd.Args() // claim.lua has six keys
		if err == nil && len(args) > 4 && args[2] == 6 && args[4] == a.firing {
			return a.do()
		}
		return err
	}
}

// What was claimed for somebody who hung up, or whose answer was lost, is as it was (case D15).
func TestWhatNobodyGotIsHandedBack(t *testing.T) {
	topics.OnBothServers(t, func(t *testing.T, w *topics.World) {
		w.Topic("t", "")
		sub := w.Subscribe("t", "s", func(c *delay.SubscriptionChange) { c.Retries = new(0) })
		w.Add("t", topics.Message("a", 0), topics.Message("b", 0))
		readers := w.Readers()
		ctx, hangUp := context.WithCancel(t.Context())
		defer hangUp()
		lost := errors.New("the connection broke")
		act := func() error { hangUp(); return nil }
		w.Redis.AddHook(afterClaim{w.Key(sub, "firing"), func() error { return act() }})
		_, err := readers.Receive(ctx, "s", 10, pull.MaxWait)
		require.ErrorIs(t, err, context.Canceled)
		act = func() error { return lost }
		_, err = readers.Receive(t.Context(), "s", 10, 0)
		require.ErrorIs(t, err, lost)
		act = func() error { return nil }
		got := w.Receive(readers, "s", 0)
		require.Equal(t, []string{"a", "b"}, topics.IDs(got))
		require.Equal(t, 1, got[0].Attempt)
	})
}
