package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/gateway/admission"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
)

const key = "Idempotency-Key"

// replayed requires that g repeats the first answer and says so.
func replayed(t *testing.T, first, g stack.Answer) {
	t.Helper()
	require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
	require.Equal(t, first.Raw, g.Raw)
	require.Equal(t, "true", g.Header.Get("Idempotency-Replayed"))
	require.Equal(t, first.Header.Get("Location"), g.Header.Get("Location"))
	require.Equal(t, first.Header.Get("Retry-After"), g.Header.Get("Retry-After"))
}

func TestSameKeyRepeatsTheFirstAnswerWhateverBecameOfTheOrder(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10, stack.LimitOf(2))
	s.Place("early", "phone")
	first := s.Order("ann", "phone", `{"quantity":2}`, key, `"one"`)
	require.Equal(t, http.StatusAccepted, first.Status, first.Raw)
	require.Empty(t, first.Header.Get("Idempotency-Replayed"))
	require.EqualValues(t, 2, first.Num("position"))
	again := func() { t.Helper(); replayed(t, first, s.Order("ann", "phone", `{"quantity":2}`, key, "one")) }
	again()
	s.Refused(api.CodeIdempotencyMismatch, s.Order("ann", "phone", `{"quantity":1}`, key, "one"))
	other := s.Order("bob", "phone", `{"quantity":2}`, key, "one")
	require.Equal(t, http.StatusAccepted, other.Status)
	require.Empty(t, other.Header.Get("Idempotency-Replayed"))
	require.NotEqual(t, first.Text("order_id"), other.Text("order_id"))
	require.EqualValues(t, 3, s.View("phone").Seq)

	s.Work()
	s.Until("ann", first.Header.Get("Location"), "confirmed")
	again()
	require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, first.Header.Get("Location"), "").Status)
	again()
	s.SetState("phone", inventory.Paused)
	again()
	s.SetState("phone", inventory.Closed)
	again()
	s.Refused(api.CodeIdempotencyMismatch, s.Order("ann", "phone", `{"quantity":1}`, key, "one"))
	s.Refused(api.CodeSaleEnded, s.Order("ann", "phone", `{"quantity":2}`, key, "two"))
	require.EqualValues(t, 3, s.View("phone").Seq)
	s.Clean()
}

func TestFiftyIdenticalRequestsMakeOneOrder(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10, stack.LimitOf(5))
	token := s.Token("ann", false)
	answers := make(chan stack.Answer, 50)
	errs := make(chan error, 50)
	var shoppers sync.WaitGroup
	for range 50 {
		shoppers.Go(func() {
			g, err := s.TryOrder(t.Context(), token, "phone", `{}`, key, "same")
			answers <- g
			errs <- err
		})
	}
	shoppers.Wait()
	ids, fresh := map[string]bool{}, 0
	for range 50 {
		require.NoError(t, <-errs)
		g := <-answers
		require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
		ids[g.Raw] = true
		if g.Header.Get("Idempotency-Replayed") == "" {
			fresh++
		}
	}
	require.Len(t, ids, 1)
	require.Equal(t, 1, fresh)
	require.EqualValues(t, 1, s.View("phone").Seq)
	require.EqualValues(t, 9, s.View("phone").Stock)
	s.Clean()
}

// A reply that Redis sent is lost on the way: the ticket stands, the shopper
// was told to come back, and coming back finds it.
func TestLostReplyMakesNoSecondOrder(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct, c.Still = proxy.Addr(), server.Addr(), true })
	s.Sell("phone", 10, stack.LimitOf(5))
	s.Place("early", "phone") // Redis knows the script by now
	proxy.DropReplies(true)
	started := time.Now()
	s.Refused(api.CodeUnavailable, s.Order("ann", "phone", "", key, "one"))
	require.Less(t, time.Since(started), 2*admission.Timeout)
	seq, err := s.Redis.HGet(t.Context(), "sluice:{phone/0}:meta", "seq").Int()
	require.NoError(t, err)
	require.Equal(t, 2, seq, "the work was done, twice asked")
	proxy.DropReplies(false)
	g := s.Order("ann", "phone", "", key, "one")
	require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
	require.True(t, strings.HasPrefix(s.Record("phone", g.Text("order_id")), "q\t"))
	require.EqualValues(t, 2, s.View("phone").Seq)
	require.EqualValues(t, 8, s.View("phone").Stock)
	s.Clean()
}

// Only the first of the two tries loses its reply: the shopper notices nothing.
func TestLostReplyIsAskedForAgain(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct, c.Still = proxy.Addr(), server.Addr(), true })
	s.Sell("phone", 10)
	s.Place("early", "phone") // Redis knows the script by now
	proxy.DropReplies(true)
	token := s.Token("ann", false)
	answered := make(chan stack.Answer, 1)
	go func() {
		g, _ := s.TryOrder(t.Context(), token, "phone", "")
		answered <- g
	}()
	require.Eventually(t, func() bool {
		n, _ := s.Redis.LLen(t.Context(), "sluice:{phone/0}:wait").Result()
		return n == 2
	}, stack.Patience, time.Millisecond)
	proxy.DropReplies(false)
	g := <-answered
	require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
	require.Empty(t, g.Header.Get("Idempotency-Replayed"), "new to its shopper")
	require.EqualValues(t, 2, s.View("phone").Seq)
	s.Clean()
}

func TestStoresDown(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct = proxy.Addr(), server.Addr() })
	s.Sell("phone", 10, stack.LimitOf(3))
	path := s.Place("ann", "phone")

	proxy.Cut()
	quick := func(g func() stack.Answer) {
		t.Helper()
		started := time.Now()
		s.Refused(api.CodeUnavailable, g())
		require.Less(t, time.Since(started), gateway.StatusTimeout+time.Second)
	}
	quick(func() stack.Answer { return s.Order("bob", "phone", "") })
	quick(func() stack.Answer { return s.Get("ann", path) })
	quick(func() stack.Answer { return s.Get("ann", path+"/events") })
	quick(func() stack.Answer { return s.Get("ann", "/v1/orders") })
	quick(func() stack.Answer { return s.Do("ann", http.MethodDelete, path, "") })
	require.Equal(t, http.StatusOK, s.Get("", "/v1/sales/phone").Status)
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool {
		return s.Get("ann", path).Status == http.StatusOK
	}, stack.Patience, 20*time.Millisecond)

	// A Redis that hangs is the worse case: nobody waits for long, however many ask.
	proxy.Pause()
	var shoppers sync.WaitGroup
	slow := make(chan string, 60)
	started := time.Now()
	for i := range 60 {
		token := s.Token(fmt.Sprintf("crowd-%d", i), false)
		shoppers.Go(func() {
			g, err := s.TryOrder(t.Context(), token, "phone", "")
			if err != nil || g.Text("code") != string(api.CodeUnavailable) {
				slow <- fmt.Sprint(g.Status, g.Raw, err)
			}
		})
	}
	shoppers.Wait()
	require.Less(t, time.Since(started), 2*admission.Timeout+time.Second)
	require.Empty(t, slow)
	proxy.Resume()
	require.Eventually(t, func() bool {
		return s.Get("ann", path).Status == http.StatusOK
	}, stack.Patience, 20*time.Millisecond)

	// The database is not on the way into the line.
	require.NoError(t, s.DB.Close())
	s.Place("cem", "phone")
	require.Equal(t, "queued", s.Get("ann", path).Text("status"), "Redis knows it")
	quick(func() stack.Answer { return s.Get("ann", strings.Replace(path, path[len(path)-4:], "0000", 1)) })
	quick(func() stack.Answer { return s.Get("ann", "/v1/orders") })
}

// An emptied Redis is not an empty sale: nothing is admitted until the line has been rebuilt.
func TestEmptiedRedisAdmitsNothingUntilRebuilt(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	s.Place("ann", "phone")
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.Refused(api.CodeUnavailable, s.Order("bob", "phone", ""))
	s.Sync()
	s.Place("bob", "phone")
	s.Clean()
}

// A receipt brings back what Redis lost, for its owner only and only while a unit is left.
func TestReceiptBringsBackALostOrder(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	first := s.Order("ann", "phone", "")
	path, receipt := first.Header.Get("Location"), first.Text("receipt")
	second := func() stack.Answer { return s.Get("ann", path, gateway.ReceiptHeader, receipt) }
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.Sync()
	s.Refused(api.CodeNotFound, s.Get("bob", path, gateway.ReceiptHeader, receipt))
	for _, g := range []stack.Answer{s.Get("ann", path+"?receipt="+receipt), second()} {
		require.Contains(t, []string{"queued", "processing"}, g.Text("status"), g.Raw)
	}
	require.Zero(t, s.View("phone").Stock)
	s.Refused(api.CodeSoldOut, s.Order("bob", "phone", ""))
	s.Clean()

	// Lost once more, and the unit went to somebody else meanwhile.
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.Sync()
	s.Place("bob", "phone")
	g := second()
	require.Equal(t, "failed", g.Text("status"), g.Raw)
	require.Equal(t, "failed", s.Get("ann", path).Text("status"), "and it stays told")
	s.Clean()
}

// Whoever no longer wants a lost order need not wait for it to come back.
func TestALostOrderIsCancelledOnItsReceipt(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	first := s.Order("ann", "phone", "")
	path, receipt := first.Header.Get("Location"), first.Text("receipt")
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.Sync()
	s.Refused(api.CodeNotFound, s.Do("bob", "DELETE", path, "", gateway.ReceiptHeader, receipt))
	g := s.Do("ann", "DELETE", path, "", gateway.ReceiptHeader, receipt)
	require.Equal(t, "cancelled", g.Text("status"), g.Raw)
	require.EqualValues(t, 1, s.View("phone").Stock, "its unit is back on sale")
	s.Clean()
}

func TestDrainRefusesNewOrdersAndAnswersTheRest(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10, stack.LimitOf(3))
	path := s.Place("ann", "phone")
	s.Gateway.Drain()
	require.True(t, s.Gateway.Draining())
	s.Refused(api.CodeUnavailable, s.Order("ann", "phone", ""))
	s.Refused(api.CodeUnavailable, s.Order("ann", "phone", `{"quantity":-1}`))
	require.Equal(t, "queued", s.Get("ann", path).Text("status"))
	started := time.Now()
	require.Equal(t, "queued", s.Get("ann", path+"?wait=20s").Text("status"))
	require.Less(t, time.Since(started), 5*time.Second)
	s.Gateway.Drain() // twice is harmless
	s.Clean()
}

// Of the orders that ended a line keeps the newest. The database knows the older ones: their keys
// repeat the first answer too, and another payload is told apart.
func TestAKeyIsRememberedLongerThanTheLineRemembers(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10, stack.LimitOf(2))
	first := s.Order("ann", "phone", `{"quantity":2}`, key, "one")
	require.Equal(t, http.StatusAccepted, first.Status, first.Raw)
	defer s.Work()()
	s.Until("ann", first.Header.Get("Location"), "confirmed")
	require.Equal(t, http.StatusOK, s.Do("ann", http.MethodDelete, first.Header.Get("Location"), "").Status)
	s.forget("phone")
	require.Empty(t, s.Redis.HGet(t.Context(), "sluice:{phone/0}:orders", first.Text("order_id")).
		Val(), "the line has forgotten it")

	seen := s.View("phone").Seq
	replayed(t, first, s.Order("ann", "phone", `{"quantity":2}`, key, "one"))
	s.Refused(api.CodeIdempotencyMismatch, s.Order("ann", "phone", `{"quantity":1}`, key, "one"))
	require.Equal(t, seen, s.View("phone").Seq, "no ticket was made")
	fresh := s.Order("ann", "phone", `{"quantity":2}`, key, "two")
	require.Equal(t, http.StatusAccepted, fresh.Status, fresh.Raw)
	require.Empty(t, fresh.Header.Get("Idempotency-Replayed"))
	s.Until("ann", fresh.Header.Get("Location"), "confirmed")
	s.Clean()

	s.SetState("phone", inventory.Paused)
	require.NoError(t, s.Reconciler.Rebuild(t.Context(), "phone"))
	replayed(t, first, s.Order("ann", "phone", `{"quantity":2}`, key, "one"))
}

// forget lets as many orders end in a sale's line that it forgets all that ended before.
func (s *world) forget(sale string) {
	s.T.Helper()
	done := "sluice:{" + sale + "/0}:done"
	ended := s.Redis.LRange(s.T.Context(), done, 0, -1).Val()
	require.NoError(s.T, s.Redis.Del(s.T.Context(), done).Err())
	newer := make([]any, queueKeepDone, queueKeepDone+len(ended))
	for i := range newer {
		newer[i] = "other-" + strconv.Itoa(i)
	}
	for _, id := range ended {
		newer = append(newer, id)
	}
	require.NoError(s.T, s.Redis.RPush(s.T.Context(), done, newer...).Err()) // the oldest stand at its tail
	last := s.Place("xia", sale)
	s.Until("xia", last, "confirmed")
	require.Equal(s.T, http.StatusOK, s.Do("xia", http.MethodDelete, last, "").Status)
	require.Eventually(s.T, func() bool {
		e, ok := s.SaleCache.Get(sale)
		return ok && e.View().Forgotten > 0
	}, stack.Patience, time.Millisecond)
}

// queueKeepDone is how many of the orders that ended a line keeps.
const queueKeepDone = 10_000
