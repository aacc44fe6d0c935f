package work_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/stack"
	"sluice/work"
)

// metric is the sum of a metric's series that have a label of this value; "" are all.
func (w *world) metric(name, label string) (sum float64) {
	w.t.Helper()
	families, err := w.reg.Gather()
	require.NoError(w.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
			sum += m.GetGauge().GetValue()
		}
	}
	return sum
}

// untilWaiting waits until so many receivers wait.
func (w *world) untilWaiting(n float64) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.metric("sluice_work_waiting_receivers", "") == n }, stack.Patience,
		time.Millisecond)
}

// later receives in the background.
func (w *world) later(ctx context.Context, subscription, body string) <-chan outcome {
	done := make(chan outcome, 1)
	r := w.request(w.all, http.MethodPost, "/work/v1/subscriptions/"+subscription+"/receive", body).WithContext(ctx)
	go func() {
		resp, err := w.client.Do(r)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		defer resp.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(resp.Body)
		done <- outcome{resp.StatusCode, text.String(), err}
	}()
	return done
}

// outcome is how a request ended.
type outcome struct {
	status int
	text   string
	err    error
}

func TestAWaitEndsWithTheFirstMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := time.Now()
	waits := w.later(t.Context(), "stock", `{"max":5,"wait":"30s"}`)
	w.untilWaiting(1)
	w.add("m1")
	got := <-waits
	require.NoError(t, got.err)
	require.Contains(t, got.text, `"id":"m1"`)
	require.Less(t, time.Since(begun), 25*time.Second)
	w.untilWaiting(0)
	require.InDelta(t, 1, w.metric("sluice_work_received_total", "received"), 0)
}

func TestWaitsEndWithTheListener(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.later(t.Context(), "stock", `{"wait":"30s"}`), w.later(t.Context(), "books", `{"wait":"30s"}`)
	w.untilWaiting(2)
	begun := time.Now()
	w.listener.Drain()
	for _, waits := range []<-chan outcome{first, second} {
		got := <-waits
		require.NoError(t, got.err)
		require.Equal(t, http.StatusOK, got.status)
		require.JSONEq(t, `{"messages":[]}`, got.text)
	}
	require.Less(t, time.Since(begun), 25*time.Second)
	w.add("m1")
	require.Empty(t, w.receive("stock", `{"wait":"30s"}`), "nothing is given to those who come later")
}

func TestWaitingReceiversAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *work.Config) { c.MaxWaiting, c.MaxWaitingEach = 3, 2 })
	ctx, cancel := context.WithCancel(t.Context())
	var all []<-chan outcome
	for range 2 {
		all = append(all, w.later(ctx, "stock", `{"wait":"30s"}`))
	}
	w.untilWaiting(2)
	refused := w.post(http.StatusServiceUnavailable, "/subscriptions/stock/receive", `{"wait":"1s"}`)
	require.Positive(t, refused.RetryAfter())
	require.Empty(t, w.receive("stock", ""), "who does not wait needs no place")
	all = append(all, w.later(ctx, "books", `{"wait":"30s"}`))
	w.untilWaiting(3)
	w.post(http.StatusServiceUnavailable, "/subscriptions/books/receive", `{"wait":"1s"}`)
	cancel()
	for _, one := range all {
		require.ErrorIs(t, (<-one).err, context.Canceled)
	}
	w.untilWaiting(0)
}

// Of a receiver that hangs up nothing is claimed: the next gets all, as their first attempt.
func TestAReceiverThatHangsUpClaimsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	waits := w.later(ctx, "stock", `{"max":10,"wait":"30s"}`)
	w.untilWaiting(1)
	cancel()
	require.ErrorIs(t, (<-waits).err, context.Canceled)
	w.untilWaiting(0)
	require.Empty(t, w.log.String(), "no store is at fault")
	w.add("m1")
	require.Equal(t, 1, w.one("stock").Attempt)
}

// broken is a connection that takes no answer.
type broken struct{ header http.Header }

func (b broken) Header() http.Header       { return b.header }
func (b broken) WriteHeader(int)           {}
func (b broken) Write([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// What was claimed for a receiver whose connection then broke is handed back, and the attempt is not counted.
func TestWhatCouldNotBeSentIsHandedBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("m1")
	w.listener.Handler().ServeHTTP(broken{http.Header{}},
		w.request(w.all, http.MethodPost, "/work/v1/subscriptions/stock/receive", ""))
	require.InDelta(t, 1, w.metric("sluice_work_received_total", "handed_back"), 0)
	got := w.one("stock")
	require.Equal(t, "m1", got.ID)
	require.Equal(t, 1, got.Attempt)
}
