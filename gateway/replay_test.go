package gateway

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
	"sluice/gateway/admission"
	"sluice/internal/testkit"
	"sluice/inventory"
)

const key = "Idempotency-Key"

// replayed requires that g repeats the first answer and says so.
func replayed(t *testing.T, first, g got) {
	t.Helper()
	require.Equal(t, http.StatusAccepted, g.status, g.raw)
	require.Equal(t, first.raw, g.raw)
	require.Equal(t, "true", g.header.Get("Idempotency-Replayed"))
	require.Equal(t, first.header.Get("Location"), g.header.Get("Location"))
	require.Equal(t, first.header.Get("Retry-After"), g.header.Get("Retry-After"))
}

func TestSameKeyRepeatsTheFirstAnswerWhateverBecameOfTheOrder(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10, limitOf(2))
	s.place("early", "phone")
	first := s.order("ann", "phone", `{"quantity":2}`, key, `"one"`)
	require.Equal(t, http.StatusAccepted, first.status, first.raw)
	require.Empty(t, first.header.Get("Idempotency-Replayed"))
	require.EqualValues(t, 2, first.num("position"))
	again := func() { t.Helper(); replayed(t, first, s.order("ann", "phone", `{"quantity":2}`, key, "one")) }
	again()
	s.refused(api.CodeIdempotencyMismatch, s.order("ann", "phone", `{"quantity":1}`, key, "one"))
	other := s.order("bob", "phone", `{"quantity":2}`, key, "one")
	require.Equal(t, http.StatusAccepted, other.status)
	require.Empty(t, other.header.Get("Idempotency-Replayed"))
	require.NotEqual(t, first.text("order_id"), other.text("order_id"))
	require.EqualValues(t, 3, s.view("phone").Seq)

	s.work()
	s.until("ann", first.header.Get("Location"), "confirmed")
	again()
	require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, first.header.Get("Location"), "").status)
	again()
	s.setState("phone", inventory.Paused)
	again()
	s.setState("phone", inventory.Closed)
	again()
	s.refused(api.CodeIdempotencyMismatch, s.order("ann", "phone", `{"quantity":1}`, key, "one"))
	s.refused(api.CodeSaleEnded, s.order("ann", "phone", `{"quantity":2}`, key, "two"))
	require.EqualValues(t, 3, s.view("phone").Seq)
	s.clean()
}

func TestFiftyIdenticalRequestsMakeOneOrder(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10, limitOf(5))
	token := s.token("ann", false)
	answers := make(chan got, 50)
	errs := make(chan error, 50)
	var shoppers sync.WaitGroup
	for range 50 {
		shoppers.Go(func() {
			g, err := fetch(t.Context(), s.client, http.MethodPost, "http://"+s.addr+"/v1/sales/phone/orders",
				token, `{}`, key, "same")
			answers <- g
			errs <- err
		})
	}
	shoppers.Wait()
	ids, fresh := map[string]bool{}, 0
	for range 50 {
		require.NoError(t, <-errs)
		g := <-answers
		require.Equal(t, http.StatusAccepted, g.status, g.raw)
		ids[g.raw] = true
		if g.header.Get("Idempotency-Replayed") == "" {
			fresh++
		}
	}
	require.Len(t, ids, 1)
	require.Equal(t, 1, fresh)
	require.EqualValues(t, 1, s.view("phone").Seq)
	require.EqualValues(t, 9, s.view("phone").Stock)
	s.clean()
}

// A reply that Redis sent is lost on the way: the ticket stands, the shopper
// was told to come back, and coming back finds it.
func TestLostReplyMakesNoSecondOrder(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newStack(t, func(c *setup) { c.redis, c.direct, c.still = proxy.Addr(), server.Addr(), true })
	s.sell("phone", 10, limitOf(5))
	s.place("early", "phone") // Redis knows the script by now
	proxy.DropReplies(true)
	started := time.Now()
	s.refused(api.CodeUnavailable, s.order("ann", "phone", "", key, "one"))
	require.Less(t, time.Since(started), 2*admission.Timeout)
	seq, err := s.rdb.HGet(t.Context(), "sluice:{phone/0}:meta", "seq").Int()
	require.NoError(t, err)
	require.Equal(t, 2, seq, "the work was done, twice asked")
	proxy.DropReplies(false)
	g := s.order("ann", "phone", "", key, "one")
	require.Equal(t, http.StatusAccepted, g.status, g.raw)
	require.True(t, strings.HasPrefix(s.record("phone", g.text("order_id")), "q\t"))
	require.EqualValues(t, 2, s.view("phone").Seq)
	require.EqualValues(t, 8, s.view("phone").Stock)
	s.clean()
}

// Only the first of the two tries loses its reply: the shopper notices nothing.
func TestLostReplyIsAskedForAgain(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newStack(t, func(c *setup) { c.redis, c.direct, c.still = proxy.Addr(), server.Addr(), true })
	s.sell("phone", 10)
	s.place("early", "phone") // Redis knows the script by now
	proxy.DropReplies(true)
	token := s.token("ann", false)
	answered := make(chan got, 1)
	go func() {
		g, _ := fetch(t.Context(), s.client, http.MethodPost, "http://"+s.addr+"/v1/sales/phone/orders", token, "")
		answered <- g
	}()
	require.Eventually(t, func() bool {
		n, _ := s.rdb.LLen(t.Context(), "sluice:{phone/0}:wait").Result()
		return n == 2
	}, patience, time.Millisecond)
	proxy.DropReplies(false)
	g := <-answered
	require.Equal(t, http.StatusAccepted, g.status, g.raw)
	require.Empty(t, g.header.Get("Idempotency-Replayed"), "new to its shopper")
	require.EqualValues(t, 2, s.view("phone").Seq)
	s.clean()
}

func TestStoresDown(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newStack(t, func(c *setup) { c.redis, c.direct = proxy.Addr(), server.Addr() })
	s.sell("phone", 10, limitOf(3))
	path := s.place("ann", "phone")

	proxy.Cut()
	quick := func(g func() got) {
		t.Helper()
		started := time.Now()
		s.refused(api.CodeUnavailable, g())
		require.Less(t, time.Since(started), statusTimeout+time.Second)
	}
	quick(func() got { return s.order("bob", "phone", "") })
	quick(func() got { return s.get("ann", path) })
	quick(func() got { return s.get("ann", path+"/events") })
	quick(func() got { return s.get("ann", "/v1/orders") })
	quick(func() got { return s.do("ann", http.MethodDelete, path, "") })
	require.Equal(t, http.StatusOK, s.get("", "/v1/sales/phone").status)
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool {
		return s.get("ann", path).status == http.StatusOK
	}, patience, 20*time.Millisecond)

	// A Redis that hangs is the worse case: nobody waits for long, however many ask.
	proxy.Pause()
	var shoppers sync.WaitGroup
	slow := make(chan string, 60)
	started := time.Now()
	for i := range 60 {
		token := s.token(fmt.Sprintf("crowd-%d", i), false)
		shoppers.Go(func() {
			g, err := fetch(t.Context(), s.client, http.MethodPost, "http://"+s.addr+"/v1/sales/phone/orders",
				token, "")
			if err != nil || g.text("code") != string(api.CodeUnavailable) {
				slow <- fmt.Sprint(g.status, g.raw, err)
			}
		})
	}
	shoppers.Wait()
	require.Less(t, time.Since(started), 2*admission.Timeout+time.Second)
	require.Empty(t, slow)
	proxy.Resume()
	require.Eventually(t, func() bool {
		return s.get("ann", path).status == http.StatusOK
	}, patience, 20*time.Millisecond)

	// The database is not on the way into the line.
	require.NoError(t, s.db.Close())
	s.place("cem", "phone")
	require.Equal(t, "queued", s.get("ann", path).text("status"), "Redis knows it")
	quick(func() got { return s.get("ann", strings.Replace(path, path[len(path)-4:], "0000", 1)) })
	quick(func() got { return s.get("ann", "/v1/orders") })
}

// An emptied Redis is not an empty sale: nothing is admitted until the line has been rebuilt.
func TestEmptiedRedisAdmitsNothingUntilRebuilt(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 1)
	s.place("ann", "phone")
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	s.refused(api.CodeUnavailable, s.order("bob", "phone", ""))
	s.carry()
	s.place("bob", "phone")
	s.clean()
}

// A receipt brings back what Redis lost, for its owner only and only while a unit is left.
func TestReceiptBringsBackALostOrder(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 1)
	first := s.order("ann", "phone", "")
	path, receipt := first.header.Get("Location"), first.text("receipt")
	second := func() got { return s.get("ann", path, receiptHeader, receipt) }
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	s.carry()
	s.refused(api.CodeNotFound, s.get("bob", path, receiptHeader, receipt))
	for _, g := range []got{s.get("ann", path+"?receipt="+receipt), second()} {
		require.Contains(t, []string{"queued", "processing"}, g.text("status"), g.raw)
	}
	require.Zero(t, s.view("phone").Stock)
	s.refused(api.CodeSoldOut, s.order("bob", "phone", ""))
	s.clean()

	// Lost once more, and the unit went to somebody else meanwhile.
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	s.carry()
	s.place("bob", "phone")
	g := second()
	require.Equal(t, "failed", g.text("status"), g.raw)
	require.Equal(t, "failed", s.get("ann", path).text("status"), "and it stays told")
	s.clean()
}

// Whoever no longer wants a lost order need not wait for it to come back.
func TestALostOrderIsCancelledOnItsReceipt(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 1)
	first := s.order("ann", "phone", "")
	path, receipt := first.header.Get("Location"), first.text("receipt")
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	s.carry()
	s.refused(api.CodeNotFound, s.do("bob", "DELETE", path, "", receiptHeader, receipt))
	g := s.do("ann", "DELETE", path, "", receiptHeader, receipt)
	require.Equal(t, "cancelled", g.text("status"), g.raw)
	require.EqualValues(t, 1, s.view("phone").Stock, "its unit is back on sale")
	s.clean()
}

func TestDrainRefusesNewOrdersAndAnswersTheRest(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10, limitOf(3))
	path := s.place("ann", "phone")
	s.gateway.Drain()
	require.True(t, s.gateway.Draining())
	s.refused(api.CodeUnavailable, s.order("ann", "phone", ""))
	s.refused(api.CodeUnavailable, s.order("ann", "phone", `{"quantity":-1}`))
	require.Equal(t, "queued", s.get("ann", path).text("status"))
	started := time.Now()
	require.Equal(t, "queued", s.get("ann", path+"?wait=20s").text("status"))
	require.Less(t, time.Since(started), 5*time.Second)
	s.gateway.Drain() // twice is harmless
	s.clean()
}

// Of the orders that ended a line keeps the newest. The database knows the older ones: their keys
// repeat the first answer too, and another payload is told apart.
func TestAKeyIsRememberedLongerThanTheLineRemembers(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10, limitOf(2))
	first := s.order("ann", "phone", `{"quantity":2}`, key, "one")
	require.Equal(t, http.StatusAccepted, first.status, first.raw)
	defer s.work()()
	s.until("ann", first.header.Get("Location"), "confirmed")
	require.Equal(t, http.StatusOK, s.do("ann", http.MethodDelete, first.header.Get("Location"), "").status)
	s.forget("phone")
	require.Empty(t, s.rdb.HGet(t.Context(), "sluice:{phone/0}:orders", first.text("order_id")).
		Val(), "the line has forgotten it")

	seen := s.view("phone").Seq
	replayed(t, first, s.order("ann", "phone", `{"quantity":2}`, key, "one"))
	s.refused(api.CodeIdempotencyMismatch, s.order("ann", "phone", `{"quantity":1}`, key, "one"))
	require.Equal(t, seen, s.view("phone").Seq, "no ticket was made")
	fresh := s.order("ann", "phone", `{"quantity":2}`, key, "two")
	require.Equal(t, http.StatusAccepted, fresh.status, fresh.raw)
	require.Empty(t, fresh.header.Get("Idempotency-Replayed"))
	s.until("ann", fresh.header.Get("Location"), "confirmed")
	s.clean()

	s.setState("phone", inventory.Paused)
	require.NoError(t, s.reconciler.Rebuild(t.Context(), "phone"))
	replayed(t, first, s.order("ann", "phone", `{"quantity":2}`, key, "one"))
}

// forget lets as many orders end in a sale's line that it forgets all that ended before.
func (s *stack) forget(sale string) {
	s.t.Helper()
	done := "sluice:{" + sale + "/0}:done"
	ended := s.rdb.LRange(s.t.Context(), done, 0, -1).Val()
	require.NoError(s.t, s.rdb.Del(s.t.Context(), done).Err())
	newer := make([]any, queueKeepDone, queueKeepDone+len(ended))
	for i := range newer {
		newer[i] = "other-" + strconv.Itoa(i)
	}
	for _, id := range ended {
		newer = append(newer, id)
	}
	require.NoError(s.t, s.rdb.RPush(s.t.Context(), done, newer...).Err()) // the oldest stand at its tail
	last := s.place("xia", sale)
	s.until("xia", last, "confirmed")
	require.Equal(s.t, http.StatusOK, s.do("xia", http.MethodDelete, last, "").status)
	require.Eventually(s.t, func() bool {
		e, ok := s.saleCache.Get(sale)
		return ok && e.View().Forgotten > 0
	}, patience, time.Millisecond)
}

// queueKeepDone is how many of the orders that ended a line keeps.
const queueKeepDone = 10_000
