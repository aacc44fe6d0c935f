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
	"sluice/gateway/ratelimit"
	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/queue"
)

func limitOf(n int) func(*inventory.NewSale) {
	return func(s *inventory.NewSale) { s.PerUserLimit = n }
}

func capOf(n int) func(*inventory.NewSale) { return func(s *inventory.NewSale) { s.Cap = n } }

func window(starts, ends time.Duration) func(*inventory.NewSale) {
	return func(s *inventory.NewSale) { s.StartsAt, s.EndsAt = time.Now().Add(starts), time.Now().Add(ends) }
}

func TestAdmittedOrderIsInRedisAndSaysWhereItStands(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 10, limitOf(2))
	for i := range 3 {
		user := fmt.Sprintf("user-%d", i)
		g := s.order(user, "phone", `{"quantity":2,"email":"ann@example.com","phone":"+8613800138000"}`)
		require.Equal(t, http.StatusAccepted, g.status, g.raw)
		id := g.text("order_id")
		record := s.record("phone", id)
		require.True(t, strings.HasPrefix(record, "q\t"), "the ticket is in Redis before the answer: %q", record)
		require.Contains(t, record, "\t"+user+"\t")
		require.Contains(t, record, "ann@example.com\t+8613800138000")
		require.Equal(t, "phone", g.text("sale_id"))
		require.Equal(t, "queued", g.text("status"))
		require.EqualValues(t, i+1, g.num("position"))
		require.EqualValues(t, 1, g.num("eta_seconds"))
		require.Equal(t, 1, g.retryAfter())
		self := "/v1/sales/phone/orders/" + id
		require.Equal(t, self, g.header.Get("Location"))
		require.Equal(t, map[string]any{"self": self, "events": self + "/events"}, g.body["links"])
		require.Empty(t, g.header.Get("Idempotency-Replayed"))
		require.Equal(t, "no-store", g.header.Get("Cache-Control"))
		ticket, err := testReceipts(t).Read("phone", id, user, g.text("receipt"))
		require.NoError(t, err)
		require.EqualValues(t, 2, ticket.Units)
		require.Equal(t, g.text("receipt"), g.header.Get(receiptHeader))
	}
	require.EqualValues(t, 4, s.view("phone").Stock)
	require.EqualValues(t, 3, s.view("phone").Waiting)
	s.clean()
}

func TestExpectedWaitFollowsTheMeasuredRate(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.gateway.RetryAfter, c.gateway.RetrySpread = time.Second, 0 })
	s.sell("phone", 1000, capOf(200))
	for i := range 200 {
		s.place(fmt.Sprintf("early-%d", i), "phone")
	}
	line := s.lines.Of("phone")
	entry, _ := s.saleCache.Get("phone")
	seen := func(served int64) bool { return entry.View().Served == served }
	require.Eventually(t, func() bool { return entry.View().Waiting == 200 }, patience, time.Millisecond)
	batch, err := line.Claim(t.Context(), "batch-1", 1, time.Minute)
	require.NoError(t, err)
	require.NoError(t, line.Settle(t.Context(), batch, []queue.Outcome{{ID: batch.Tickets[0].ID, Op: queue.OpFail,
		Reason: "test"}}))
	require.Eventually(t, func() bool { return seen(1) }, patience, time.Millisecond)
	rate := entry.Rate()
	require.Less(t, rate, 101.0, "one ticket within a look, which takes a hundredth of a second at least")
	g := s.order("ann", "phone", "")
	require.EqualValues(t, 200, g.num("position"))
	want := int64(200/rate) + 1
	require.InDelta(t, want, g.num("eta_seconds"), 1)
	require.EqualValues(t, min(max(g.num("eta_seconds"), 1), 30), g.retryAfter())
	shown := s.get("ann", g.header.Get("Location"))
	require.EqualValues(t, 200, shown.num("position"))
	require.InDelta(t, want, shown.num("eta_seconds"), 1)
	full := s.refused(api.CodeQueueFull, s.order("zoe", "phone", ""))
	require.InDelta(t, 1+min(100/rate, 30), full.retryAfter(), 1.1, "half of the line at the same pace")
}

func TestWindowAndStateRefusals(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("later", 5, window(90*time.Second, time.Hour))
	s.sell("draft", 5, func(n *inventory.NewSale) { n.Open = false })
	s.sell("over", 5, window(-time.Hour, -time.Minute))
	s.sell("closed", 5)
	s.setState("closed", inventory.Closed)
	s.sell("paused", 5)
	s.setState("paused", inventory.Paused)

	g := s.refused(api.CodeSaleNotStarted, s.order("ann", "later", ""))
	starts, err := time.Parse(api.TimeFormat, g.text("starts_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Duration(g.retryAfter())*time.Second), starts, 5*time.Second)
	g = s.refused(api.CodeSaleNotStarted, s.order("ann", "draft", ""))
	require.Empty(t, g.text("starts_at"), "nobody knows yet")
	for _, sale := range []string{"over", "closed"} {
		s.refused(api.CodeSaleEnded, s.order("ann", sale, ""))
	}
	s.refused(api.CodeSalePaused, s.order("ann", "paused", ""))
	s.setState("paused", inventory.Open)
	s.place("ann", "paused")
	s.clean()
}

// The window follows Redis' clock, so that gateways agree whatever their own say.
func TestWindowFollowsTheClockOfRedis(t *testing.T) {
	t.Parallel()
	mini := testkit.Embedded(t)
	s := newStack(t, func(c *setup) { c.redis = mini.Addr() })
	s.sell("phone", 5)
	s.place("ann", "phone")
	mini.SetTime(time.Now().Add(2 * time.Hour))
	s.refused(api.CodeSaleEnded, s.order("bob", "phone", ""))
	require.Eventually(t, func() bool {
		return s.get("", "/v1/sales/phone").text("state") == "ended"
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(s.get("", "/v1/sales").raw, `"state":"ended"`)
	}, patience, 10*time.Millisecond)
	mini.SetTime(time.Now()) // set back, as after a failover
	require.Eventually(t, func() bool {
		return s.get("", "/v1/sales/phone").text("state") == "open"
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(s.get("", "/v1/sales").raw, `"state":"open"`)
	}, patience, 10*time.Millisecond)
}

func TestHolderReadsItsOrderEvenWhenSoldOutOrFull(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.gateway.RetryAfter, c.gateway.RetrySpread = 3*time.Second, 4*time.Second })
	s.sell("scarce", 1)
	s.sell("narrow", 5, capOf(1))
	scarce, narrow := s.place("ann", "scarce"), s.place("ann", "narrow")

	for sale, path := range map[string]string{"scarce": scarce, "narrow": narrow} {
		g := s.refused(api.CodeLimitReached, s.order("ann", sale, ""))
		require.True(t, strings.HasSuffix(path, g.text("order_id")), g.raw)
	}
	g := s.refused(api.CodeSoldOut, s.order("bob", "scarce", ""))
	require.Empty(t, g.header.Get("Retry-After"))
	seen := map[int]bool{}
	for i := 0; i < 60 && len(seen) <= 2; i++ { // no longer: a line that nobody drains for a second adds its own wait
		g := s.refused(api.CodeQueueFull, s.order(fmt.Sprintf("bob-%d", i), "narrow", ""))
		require.GreaterOrEqual(t, g.retryAfter(), 3)
		require.LessOrEqual(t, g.retryAfter(), 7)
		seen[g.retryAfter()] = true
	}
	require.Greater(t, len(seen), 2, "Retry-After is spread")

	// After the order has been confirmed the answer is the same.
	s.work()
	s.until("ann", scarce, "confirmed")
	g = s.refused(api.CodeLimitReached, s.order("ann", "scarce", ""))
	require.True(t, strings.HasSuffix(scarce, g.text("order_id")), g.raw)
	s.clean()
}

func TestFullLineRedirectsBrowsersOnlyWhenTold(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "https://shop.example/busy"} {
		s := newStack(t, func(c *setup) { c.gateway.BusyURL = url })
		s.sell("narrow", 5, capOf(1))
		s.place("ann", "narrow")
		browser := s.order("bob", "narrow", "", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		if url == "" {
			s.refused(api.CodeQueueFull, browser)
		} else {
			require.Equal(t, http.StatusSeeOther, browser.status)
			require.Equal(t, url, browser.header.Get("Location"))
			require.GreaterOrEqual(t, browser.retryAfter(), 2)
			require.Contains(t, browser.header.Get("Vary"), "Accept")
		}
		s.refused(api.CodeQueueFull, s.order("bob", "narrow", "", "Accept", "application/json"))
	}
}

func TestRequestRefusals(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 5, limitOf(2))
	for body, field := range map[string]string{
		`{"quantity":0}`: "quantity", `{"quantity":-1}`: "quantity", `{"quantity":3}`: "quantity",
		`{"quantity":1e3}`:                     "quantity",
		`{"quantity":99999999999999999999999}`: "quantity", `{"email":"nobody"}`: "email", `{"phone":"12"}`: "phone",
		`{"x":1}`:                     "x",
		`{"quantity":1,"quantity":2}`: "quantity", `{`: "body", `[]`: "body", "\x00": "body", `{} {}`: "body",
		strings.Repeat("[", 10_000): "body", `{"email":` + strings.Repeat(`{"a":`, 2000): "a",
	} {
		g := s.refused(api.CodeInvalidRequest, s.order("ann", "phone", body))
		errs := g.body["errors"].([]any)
		name := errs[0].(map[string]any)["field"]
		if field == "a" { // deep inside a member: naming either is right
			require.Contains(t, []any{"email", "body"}, name, body[:20])
			continue
		}
		require.Equal(t, field, name, body[:min(40, len(body))])
	}
	s.refused(api.CodeTooLarge, s.order("ann", "phone", `{"email":"`+strings.Repeat("a", 17<<10)+`"}`))
	s.refused(api.CodeUnsupportedMedia, s.order("ann", "phone", `{}`, "Content-Type", "text/xml"))
	s.refused(api.CodeInvalidRequest, s.order("ann", "phone", `{}`, "Idempotency-Key", strings.Repeat("k", 256)))
	for _, sale := range []string{"nothing", "a{b}", "a%0Ab", "a%7Bb%7D", "-a", strings.Repeat("a", 65), "%2e%2e",
		"..%2f..%2fadmin"} {
		s.refused(api.CodeNotFound, s.order("ann", sale, ""))
	}
	require.EqualValues(t, 5, s.view("phone").Stock)
	require.Zero(t, s.view("phone").Seq, "no refusal has cost a ticket")
	names, err := s.rdb.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, name := range names {
		require.True(t, strings.HasPrefix(name, "sluice:{phone/0}:"), name)
	}
	s.clean()
}

func TestUnauthorizedCountsAgainstTheAddressAndValidUsersNever(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 3} })
	s.sell("phone", 50)
	path := s.place("ann", "phone")
	require.Equal(t, http.StatusOK, s.get("ann", path).status)
	for range 3 {
		g := s.refused(api.CodeUnauthorized, s.order("", "phone", ""))
		require.Equal(t, `Bearer realm="sluice"`, g.header.Get("WWW-Authenticate"))
	}
	for _, g := range []got{s.order("", "phone", ""), s.get("", path), s.get("", "/v1/orders")} {
		s.refused(api.CodeRateLimited, g)
		require.Contains(t, g.header.Get("RateLimit-Policy"), `"per-ip"`)
		require.GreaterOrEqual(t, g.retryAfter(), 900)
	}
	for i := range 10 {
		s.place(fmt.Sprintf("user-%d", i), "phone")
	}
	require.Equal(t, http.StatusOK, s.get("", "/v1/sales").status, "what is on sale needs no user")
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) {
		c.limits = ratelimit.Config{PerUserRPS: 0.01, PerUserBurst: 2, GlobalRPS: 0.02, GlobalBurst: 3}
	})
	s.sell("phone", 50, limitOf(5))
	s.place("ann", "phone")
	s.place("ann", "phone")
	for range 5 {
		g := s.refused(api.CodeRateLimited, s.order("ann", "phone", ""))
		require.Equal(t, `"per-user";q=1;w=100`, g.header.Get("RateLimit-Policy"))
		require.Contains(t, g.header.Get("RateLimit"), `"per-user";r=0;t=`)
		require.InDelta(t, 100, g.retryAfter(), 5)
	}
	s.place("bob", "phone") // ann's haste has cost the others nothing
	g := s.refused(api.CodeRateLimited, s.order("cem", "phone", ""))
	require.Equal(t, `"global";q=1;w=50`, g.header.Get("RateLimit-Policy"))
	require.EqualValues(t, 3, s.view("phone").Seq)
	require.Equal(t, http.StatusOK, s.get("ann", "/v1/orders").status, "the limits are for placing orders")
	s.clean()
}

func TestOwnOrdersArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	require.Empty(t, s.get("ann", "/v1/orders").body["orders"])
	s.sell("phone", 50, limitOf(7))
	s.sell("watch", 50, limitOf(7))
	var placed []string
	place := func(sale string) {
		path := s.place("ann", sale)
		placed = append([]string{path[strings.LastIndex(path, "/")+1:]}, placed...)
		at := time.Now().Add(2 * time.Millisecond) // newest first is by the millisecond
		require.Eventually(t, func() bool { return time.Now().After(at) }, patience, time.Millisecond)
	}
	for range 3 {
		place("phone")
	}
	s.place("bob", "phone")
	stop := s.work()
	for _, id := range placed {
		s.until("ann", "/v1/sales/phone/orders/"+id, "confirmed")
	}
	stop() // those of the other sale stay in line
	for range 4 {
		place("watch")
	}
	var seen []string
	query := "?limit=3"
	for pages := 0; ; pages++ {
		require.Less(t, pages, 3)
		g := s.get("ann", "/v1/orders"+query)
		require.Equal(t, http.StatusOK, g.status, g.raw)
		require.Equal(t, "no-store", g.header.Get("Cache-Control"))
		for _, one := range g.body["orders"].([]any) {
			o := one.(map[string]any)
			seen = append(seen, o["order_id"].(string))
			require.EqualValues(t, 9900, o["price_cents"])
			require.Equal(t, "CNY", o["currency"])
		}
		next := g.text("next_cursor")
		if next == "" {
			break
		}
		query = "?limit=3&cursor=" + next
	}
	require.Equal(t, placed, seen)
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "limit=-1", "limit=", "cursor=", "cursor=x",
		"cursor=1_", "cursor=-1_a", "cursor=1_" + strings.Repeat("a", 37)} {
		g := s.refused(api.CodeInvalidRequest, s.get("ann", "/v1/orders?"+query))
		field, _, _ := strings.Cut(query, "=")
		require.Contains(t, g.raw, `"field":"`+field+`"`)
	}
}

func TestCancelGivesTheUnitBack(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 1)
	path := s.place("ann", "phone")
	s.refused(api.CodeNotFound, s.do("bob", http.MethodDelete, path, ""))
	s.refused(api.CodeUnauthorized, s.do("", http.MethodDelete, path, ""))
	s.refused(api.CodeSoldOut, s.order("bob", "phone", ""))
	for range 2 { // cancelling twice is no error
		g := s.do("ann", http.MethodDelete, path, "")
		require.Equal(t, http.StatusOK, g.status, g.raw)
		require.Equal(t, "cancelled", g.text("status"))
		require.NotEmpty(t, g.text("ended_at"))
	}
	s.clean()
	var g got // bob was told that nothing is left, and for a moment that stays so
	require.Eventually(t, func() bool {
		g = s.order("bob", "phone", "")
		return g.status == http.StatusAccepted
	}, patience, time.Millisecond)
	bobs := g.header.Get("Location")
	s.work()
	s.until("bob", bobs, "confirmed")
	g = s.do("bob", http.MethodDelete, bobs, "")
	require.Equal(t, "cancelled", g.text("status"), g.raw)
	require.Equal(t, "cancelled", s.get("ann", path).text("status"))
	again := s.place("bob", "phone")
	require.NotEqual(t, bobs, again)
	for _, id := range []string{"no-such-order", strings.Repeat("a", 65), "a%0Ab", "%ff"} {
		s.refused(api.CodeNotFound, s.do("ann", http.MethodDelete, "/v1/sales/phone/orders/"+id, ""))
		s.refused(api.CodeNotFound, s.get("ann", "/v1/sales/phone/orders/"+id))
	}
	s.until("bob", again, "confirmed")
	s.clean()
}

func TestFailedOrderSaysWhyAndCannotBeCancelled(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 2)
	first, second := s.place("ann", "phone"), s.place("bob", "phone")
	g := s.admin(http.MethodPost, "/admin/v1/sales/phone/stock", `{"delta":-1,"reason":"damaged"}`)
	require.Equal(t, http.StatusOK, g.status, g.raw)
	s.work()
	s.until("ann", first, "confirmed")
	failed := s.until("bob", second, "failed")
	require.Equal(t, "sold_out", failed.text("reason"))
	require.NotEmpty(t, failed.text("ended_at"))
	require.Nil(t, failed.body["position"])
	s.refused(api.CodeNotCancellable, s.do("bob", http.MethodDelete, second, ""))
	s.clean()
}

// Many shoppers at once: nothing is oversold, and the refused are told why.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 20)
	s.work()
	var mu sync.Mutex
	counts := map[string]int{}
	var shoppers sync.WaitGroup
	for i := range 100 {
		token := s.token("user-"+strconv.Itoa(i), false)
		shoppers.Go(func() {
			g, err := fetch(t.Context(), s.client, http.MethodPost, "http://"+s.addr+"/v1/sales/phone/orders",
				token, "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				counts[err.Error()]++
			}
			counts[strconv.Itoa(g.status)+g.text("code")]++
		})
	}
	shoppers.Wait()
	require.Equal(t, map[string]int{"202": 20, "409sold_out": 80}, counts)
	require.Eventually(t, func() bool { return !s.view("phone").InFlight() }, patience, 10*time.Millisecond)
	s.clean()
}
