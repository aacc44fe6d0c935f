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
	"sluice/gateway/ratelimit"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
	"sluice/queue"
)

func TestAdmittedOrderIsInRedisAndSaysWhereItStands(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10, stack.LimitOf(2))
	for i := range 3 {
		user := fmt.Sprintf("user-%d", i)
		g := s.Order(user, "phone", `{"quantity":2,"email":"ann@example.com","phone":"+8613800138000"}`)
		require.Equal(t, http.StatusAccepted, g.Status, g.Raw)
		id := g.Text("order_id")
		record := s.Record("phone", id)
		require.True(t, strings.HasPrefix(record, "q\t"), "the ticket is in Redis before the answer: %q", record)
		require.Contains(t, record, "\t"+user+"\t")
		require.Contains(t, record, "ann@example.com\t+8613800138000")
		require.Equal(t, "phone", g.Text("sale_id"))
		require.Equal(t, "queued", g.Text("status"))
		require.EqualValues(t, i+1, g.Num("position"))
		require.EqualValues(t, 1, g.Num("eta_seconds"))
		require.Equal(t, 1, g.RetryAfter())
		self := "/v1/sales/phone/orders/" + id
		require.Equal(t, self, g.Header.Get("Location"))
		require.Equal(t, map[string]any{"self": self, "events": self + "/events"}, g.Body["links"])
		require.Empty(t, g.Header.Get("Idempotency-Replayed"))
		require.Equal(t, "no-store", g.Header.Get("Cache-Control"))
		ticket, err := stack.Receipts(t).Read("phone", id, user, g.Text("receipt"))
		require.NoError(t, err)
		require.EqualValues(t, 2, ticket.Units)
		require.Equal(t, g.Text("receipt"), g.Header.Get(gateway.ReceiptHeader))
	}
	require.EqualValues(t, 4, s.View("phone").Stock)
	require.EqualValues(t, 3, s.View("phone").Waiting)
	s.Clean()
}

func TestExpectedWaitFollowsTheMeasuredRate(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) { c.Gateway.RetryAfter, c.Gateway.RetrySpread = time.Second, 0 })
	s.Sell("phone", 1000, stack.CapOf(200))
	for i := range 200 {
		s.Place(fmt.Sprintf("early-%d", i), "phone")
	}
	line := s.Lines.Of("phone")
	entry, _ := s.SaleCache.Get("phone")
	seen := func(served int64) bool { return entry.View().Served == served }
	require.Eventually(t, func() bool { return entry.View().Waiting == 200 }, stack.Patience, time.Millisecond)
	batch, err := line.Claim(t.Context(), "batch-1", 1, time.Minute)
	require.NoError(t, err)
	require.NoError(t, line.Settle(t.Context(), batch, []queue.Outcome{{ID: batch.Tickets[0].ID, Op: queue.OpFail,
		Reason: "test"}}))
	require.Eventually(t, func() bool { return seen(1) }, stack.Patience, time.Millisecond)
	rate := entry.Rate()
	require.Less(t, rate, 101.0, "one ticket within a look, which takes a hundredth of a second at least")
	g := s.Order("ann", "phone", "")
	require.EqualValues(t, 200, g.Num("position"))
	want := int64(200/rate) + 1
	require.InDelta(t, want, g.Num("eta_seconds"), 1)
	require.EqualValues(t, min(max(g.Num("eta_seconds"), 1), 30), g.RetryAfter())
	shown := s.Get("ann", g.Header.Get("Location"))
	require.EqualValues(t, 200, shown.Num("position"))
	require.InDelta(t, want, shown.Num("eta_seconds"), 1)
	full := s.Refused(api.CodeQueueFull, s.Order("zoe", "phone", ""))
	require.InDelta(t, 1+min(100/rate, 30), full.RetryAfter(), 1.1, "half of the line at the same pace")
}

func TestWindowAndStateRefusals(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("later", 5, stack.Window(90*time.Second, time.Hour))
	s.Sell("draft", 5, func(n *inventory.NewSale) { n.Open = false })
	s.Sell("over", 5, stack.Window(-time.Hour, -time.Minute))
	s.Sell("closed", 5)
	s.SetState("closed", inventory.Closed)
	s.Sell("paused", 5)
	s.SetState("paused", inventory.Paused)

	g := s.Refused(api.CodeSaleNotStarted, s.Order("ann", "later", ""))
	starts, err := time.Parse(api.TimeFormat, g.Text("starts_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Duration(g.RetryAfter())*time.Second), starts, 5*time.Second)
	g = s.Refused(api.CodeSaleNotStarted, s.Order("ann", "draft", ""))
	require.Empty(t, g.Text("starts_at"), "nobody knows yet")
	for _, sale := range []string{"over", "closed"} {
		s.Refused(api.CodeSaleEnded, s.Order("ann", sale, ""))
	}
	s.Refused(api.CodeSalePaused, s.Order("ann", "paused", ""))
	s.SetState("paused", inventory.Open)
	s.Place("ann", "paused")
	s.Clean()
}

// The window follows Redis' clock, so that gateways agree whatever their own say.
func TestWindowFollowsTheClockOfRedis(t *testing.T) {
	t.Parallel()
	mini := testkit.Embedded(t)
	s := newWorld(t, func(c *stack.Setup) { c.Redis = mini.Addr() })
	s.Sell("phone", 5)
	s.Place("ann", "phone")
	mini.SetTime(time.Now().Add(2 * time.Hour))
	s.Refused(api.CodeSaleEnded, s.Order("bob", "phone", ""))
	require.Eventually(t, func() bool {
		return s.Get("", "/v1/sales/phone").Text("state") == "ended"
	}, stack.Patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(s.Get("", "/v1/sales").Raw, `"state":"ended"`)
	}, stack.Patience, 10*time.Millisecond)
	mini.SetTime(time.Now()) // set back, as after a failover
	require.Eventually(t, func() bool {
		return s.Get("", "/v1/sales/phone").Text("state") == "open"
	}, stack.Patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(s.Get("", "/v1/sales").Raw, `"state":"open"`)
	}, stack.Patience, 10*time.Millisecond)
}

func TestHolderReadsItsOrderEvenWhenSoldOutOrFull(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.Gateway.RetryAfter, c.Gateway.RetrySpread = 3*time.Second, 4*time.Second
	})
	s.Sell("scarce", 1)
	s.Sell("narrow", 5, stack.CapOf(1))
	scarce, narrow := s.Place("ann", "scarce"), s.Place("ann", "narrow")

	for sale, path := range map[string]string{"scarce": scarce, "narrow": narrow} {
		g := s.Refused(api.CodeLimitReached, s.Order("ann", sale, ""))
		require.True(t, strings.HasSuffix(path, g.Text("order_id")), g.Raw)
	}
	g := s.Refused(api.CodeSoldOut, s.Order("bob", "scarce", ""))
	require.Empty(t, g.Header.Get("Retry-After"))
	seen := map[int]bool{}
	for i := 0; i < 60 && len(seen) <= 2; i++ { // no longer: a line that nobody drains for a second adds its own wait
		g := s.Refused(api.CodeQueueFull, s.Order(fmt.Sprintf("bob-%d", i), "narrow", ""))
		require.GreaterOrEqual(t, g.RetryAfter(), 3)
		require.LessOrEqual(t, g.RetryAfter(), 7)
		seen[g.RetryAfter()] = true
	}
	require.Greater(t, len(seen), 2, "Retry-After is spread")

	// After the order has been confirmed the answer is the same.
	s.Work()
	s.Until("ann", scarce, "confirmed")
	g = s.Refused(api.CodeLimitReached, s.Order("ann", "scarce", ""))
	require.True(t, strings.HasSuffix(scarce, g.Text("order_id")), g.Raw)
	s.Clean()
}

func TestFullLineRedirectsBrowsersOnlyWhenTold(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "https://shop.example/busy"} {
		s := newWorld(t, func(c *stack.Setup) { c.Gateway.BusyURL = url })
		s.Sell("narrow", 5, stack.CapOf(1))
		s.Place("ann", "narrow")
		browser := s.Order("bob", "narrow", "", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		if url == "" {
			s.Refused(api.CodeQueueFull, browser)
		} else {
			require.Equal(t, http.StatusSeeOther, browser.Status)
			require.Equal(t, url, browser.Header.Get("Location"))
			require.GreaterOrEqual(t, browser.RetryAfter(), 2)
			require.Contains(t, browser.Header.Get("Vary"), "Accept")
		}
		s.Refused(api.CodeQueueFull, s.Order("bob", "narrow", "", "Accept", "application/json"))
	}
}

func TestRequestRefusals(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 5, stack.LimitOf(2))
	for body, field := range map[string]string{
		`{"quantity":0}`: "quantity", `{"quantity":-1}`: "quantity", `{"quantity":3}`: "quantity",
		`{"quantity":1e3}`:                     "quantity",
		`{"quantity":99999999999999999999999}`: "quantity", `{"email":"nobody"}`: "email", `{"phone":"12"}`: "phone",
		`{"x":1}`:                     "x",
		`{"quantity":1,"quantity":2}`: "quantity", `{`: "body", `[]`: "body", "\x00": "body", `{} {}`: "body",
		strings.Repeat("[", 10_000): "body", `{"email":` + strings.Repeat(`{"a":`, 2000): "a",
	} {
		g := s.Refused(api.CodeInvalidRequest, s.Order("ann", "phone", body))
		errs := g.Body["errors"].([]any)
		name := errs[0].(map[string]any)["field"]
		if field == "a" { // deep inside a member: naming either is right
			require.Contains(t, []any{"email", "body"}, name, body[:20])
			continue
		}
		require.Equal(t, field, name, body[:min(40, len(body))])
	}
	s.Refused(api.CodeTooLarge, s.Order("ann", "phone", `{"email":"`+strings.Repeat("a", 17<<10)+`"}`))
	s.Refused(api.CodeUnsupportedMedia, s.Order("ann", "phone", `{}`, "Content-Type", "text/xml"))
	s.Refused(api.CodeInvalidRequest, s.Order("ann", "phone", `{}`, "Idempotency-Key", strings.Repeat("k", 256)))
	for _, sale := range []string{"nothing", "a{b}", "a%0Ab", "a%7Bb%7D", "-a", strings.Repeat("a", 65), "%2e%2e",
		"..%2f..%2fadmin"} {
		s.Refused(api.CodeNotFound, s.Order("ann", sale, ""))
	}
	require.EqualValues(t, 5, s.View("phone").Stock)
	require.Zero(t, s.View("phone").Seq, "no refusal has cost a ticket")
	names, err := s.Redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, name := range names {
		require.True(t, strings.HasPrefix(name, "sluice:{phone/0}:"), name)
	}
	s.Clean()
}

func TestUnauthorizedCountsAgainstTheAddressAndValidUsersNever(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) { c.Limits = ratelimit.Config{PerIPRPS: 0.001, PerIPBurst: 3} })
	s.Sell("phone", 50)
	path := s.Place("ann", "phone")
	require.Equal(t, http.StatusOK, s.Get("ann", path).Status)
	for range 3 {
		g := s.Refused(api.CodeUnauthorized, s.Order("", "phone", ""))
		require.Equal(t, `Bearer realm="sluice"`, g.Header.Get("WWW-Authenticate"))
	}
	for _, g := range []stack.Answer{s.Order("", "phone", ""), s.Get("", path), s.Get("", "/v1/orders")} {
		s.Refused(api.CodeRateLimited, g)
		require.Contains(t, g.Header.Get("RateLimit-Policy"), `"per-ip"`)
		require.GreaterOrEqual(t, g.RetryAfter(), 900)
	}
	for i := range 10 {
		s.Place(fmt.Sprintf("user-%d", i), "phone")
	}
	require.Equal(t, http.StatusOK, s.Get("", "/v1/sales").Status, "what is on sale needs no user")
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	s := newWorld(t, func(c *stack.Setup) {
		c.Limits = ratelimit.Config{PerUserRPS: 0.01, PerUserBurst: 2, GlobalRPS: 0.02, GlobalBurst: 3}
	})
	s.Sell("phone", 50, stack.LimitOf(5))
	s.Place("ann", "phone")
	s.Place("ann", "phone")
	for range 5 {
		g := s.Refused(api.CodeRateLimited, s.Order("ann", "phone", ""))
		require.Equal(t, `"per-user";q=1;w=100`, g.Header.Get("RateLimit-Policy"))
		require.Contains(t, g.Header.Get("RateLimit"), `"per-user";r=0;t=`)
		require.InDelta(t, 100, g.RetryAfter(), 5)
	}
	s.Place("bob", "phone") // ann's haste has cost the others nothing
	g := s.Refused(api.CodeRateLimited, s.Order("cem", "phone", ""))
	require.Equal(t, `"global";q=1;w=50`, g.Header.Get("RateLimit-Policy"))
	require.EqualValues(t, 3, s.View("phone").Seq)
	require.Equal(t, http.StatusOK, s.Get("ann", "/v1/orders").Status, "the limits are for placing orders")
	s.Clean()
}

// Many shoppers at once: nothing is oversold, and the refused are told why.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 20)
	s.Work()
	var mu sync.Mutex
	counts := map[string]int{}
	var shoppers sync.WaitGroup
	for i := range 100 {
		token := s.Token("user-"+strconv.Itoa(i), false)
		shoppers.Go(func() {
			g, err := s.TryOrder(t.Context(), token, "phone", "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				counts[err.Error()]++
			}
			counts[strconv.Itoa(g.Status)+g.Text("code")]++
		})
	}
	shoppers.Wait()
	require.Equal(t, map[string]int{"202": 20, "409sold_out": 80}, counts)
	require.Eventually(t, func() bool { return !s.View("phone").InFlight() }, stack.Patience, 10*time.Millisecond)
	s.Clean()
}
