package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/inventory"
	"sluice/order"
)

// asked counts the calls to Redis that f makes.
func (s *stack) asked(f func()) int64 {
	before := s.trips.Rounds.Load()
	f()
	return s.trips.Rounds.Load() - before
}

// local lets strangers try until the gateway answers one of them by itself.
func (s *stack) local(code api.Code, sale string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return s.asked(func() { s.refused(code, s.order(newUUID(), sale, "")) }) == 0
	}, patience, time.Millisecond, "every refusal asks Redis")
}

// quiet is a stack whose loops ask Redis nothing, so that a test may count what its own requests ask.
func quiet(c *setup) { c.still = true }

func TestSoldOutIsAnsweredWithoutRedis(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 2)
	won := s.place("ann", "phone", api.IdempotencyHeader, "first")
	s.place("bob", "phone")
	s.local(api.CodeSoldOut, "phone")
	// Whoever was in the line still gets the answer that is theirs, whatever is known about everybody else.
	for range 20 {
		require.Equal(t, won[len(won)-36:], s.refused(api.CodeLimitReached, s.order("ann", "phone", "")).
			text("order_id"))
		again := s.order("ann", "phone", "", api.IdempotencyHeader, "first")
		require.Equal(t, won, again.header.Get("Location"), again.raw)
		s.refused(api.CodeSoldOut, s.order("zoe", "phone", ""))
	}
	s.clean()
}

// An order that was cancelled no longer holds anything, and its key still answers.
func TestWhoCancelledIsRemembered(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	gone := s.place("ann", "phone", api.IdempotencyHeader, "first")
	require.Equal(t, "cancelled", s.do("ann", http.MethodDelete, gone, "").text("status"))
	s.place("bob", "phone")
	s.local(api.CodeSoldOut, "phone")
	require.Equal(t, gone, s.order("ann", "phone", "", api.IdempotencyHeader, "first").header.Get("Location"))
}

// A returned unit is sold. Until then the gateway refuses by itself for no longer than Redis told, counted from the
// last request that asked: however slow the machine, such a refusal begins within that time of the answer before.
func TestReturnedUnitEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	const toldAtMost = 110 * time.Millisecond // admit.lua: repeated and renewed
	s := newStack(t, quiet)
	s.sell("phone", 1)
	won := s.place("ann", "phone")
	s.local(api.CodeSoldOut, "phone")
	answered := time.Now() // the newest answer that asked Redis came no later
	require.Equal(t, "cancelled", s.do("ann", http.MethodDelete, won, "").text("status"))
	for began := time.Now(); ; {
		var g got
		sent := time.Now()
		require.Less(t, sent.Sub(began), patience)
		asked := s.asked(func() { g = s.order("bob", "phone", "") })
		if g.status == http.StatusAccepted {
			return
		}
		s.refused(api.CodeSoldOut, g)
		if asked > 0 {
			answered = time.Now()
			continue
		}
		require.LessOrEqual(t, sent.Sub(answered), toldAtMost, "refused without asking")
	}
}

func TestOperatorsChangeEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 5)
	s.setState("phone", inventory.Paused)
	s.local(api.CodeSalePaused, "phone")
	s.setState("phone", inventory.Open)
	s.place("ann", "phone")
}

// A full line has room again with the next claim: nobody is refused for longer than that is unknown.
func TestFullLineIsAnsweredWithoutRedisForAMoment(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 100, func(n *inventory.NewSale) { n.Cap = 2 })
	s.place("ann", "phone")
	s.place("bob", "phone")
	s.local(api.CodeQueueFull, "phone")
	s.refused(api.CodeLimitReached, s.order("ann", "phone", ""))
	stop := s.work()
	require.Eventually(t, func() bool {
		return s.order("zoe", "phone", "").status == http.StatusAccepted
	}, patience, time.Millisecond)
	stop()
}

// elsewhere places orders for phone through another gateway, which hears no news, and returns the refusal's code.
func (s *stack) elsewhere() (place func(user string) string) {
	other, err := New(DefaultConfig(), Parts{Auth: s.gateway.Auth, Limiter: s.limiter, Lines: s.lines,
		SaleCache:  s.saleCache,
		Reconciler: s.reconciler,
		Finder:     order.NewFinder(s.db, s.lines, s.saleCache), Canceller: s.gateway.Canceller}, quietLog(),
		prometheus.NewRegistry(), time.Now)
	require.NoError(s.t, err)
	s.t.Cleanup(other.admission.Wait)
	return func(user string) string {
		r := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "/v1/sales/phone/orders", nil)
		r.Header.Set("Authorization", "Bearer "+s.token(user, false))
		w := httptest.NewRecorder()
		other.Handler().ServeHTTP(w, r)
		var body struct{ Code string }
		require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
		return body.Code
	}
}

// Whoever wins a unit that came back never reads "sold out" through a gateway that has not heard that it did.
func TestWinnerOfAReturnedUnitNeverReadsSoldOut(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 1)
	there := s.elsewhere()
	holder := "first"
	won := s.place(holder, "phone")
	for round := range 20 {
		require.Eventually(t, func() bool {
			return s.asked(func() { require.Equal(t, string(api.CodeSoldOut), there(newUUID())) }) == 0
		}, patience, time.Millisecond, "the other gateway refuses by itself")
		require.Equal(t, http.StatusOK, s.do(holder, http.MethodDelete, won, "").status)
		holder = fmt.Sprintf("winner-%d", round)
		var g got
		since := time.Now()
		for g.status != http.StatusAccepted {
			require.Less(t, time.Since(since), patience)
			g = s.order(holder, "phone", "")
		}
		require.Equal(t, string(api.CodeLimitReached), there(holder))
		won = g.header.Get("Location")
	}
	s.clean()
}

// Two gateways share one line: each recognises whom the other let in.
func TestSeenUsersHoldWhoCameThroughAnother(t *testing.T) {
	t.Parallel()
	s := newStack(t, quiet)
	s.sell("phone", 50, func(n *inventory.NewSale) { n.Cap = 100 })
	there := s.elsewhere()
	for i := range 48 {
		s.place(string(rune('a'+i%26))+string(rune('a'+i/26)), "phone")
	}
	require.Empty(t, there("elsewhere"))
	require.Empty(t, there("elsewhere-too"))
	s.local(api.CodeSoldOut, "phone")
	s.refused(api.CodeLimitReached, s.order("elsewhere", "phone", ""))
	require.Eventually(t, func() bool {
		return s.asked(func() { require.Equal(t, string(api.CodeSoldOut), there(newUUID())) }) == 0
	}, patience, time.Millisecond)
	require.Equal(t, string(api.CodeLimitReached), there("aa"))
	require.Equal(t, string(api.CodeLimitReached), there("elsewhere"))
}

// The two ways to write an order must not drift apart.
func TestOrdersAreWrittenAlike(t *testing.T) {
	t.Parallel()
	pace := inventory.Pace{PerSecond: 3, InWork: 4}
	at := time.Date(2026, 11, 21, 10, 0, 0, 123_456_789, time.FixedZone("far", 8*3600))
	for _, v := range []order.View{
		{ID: "a-1", SaleID: "phone", Status: order.Queued, Quantity: 3, Position: 17, AdmittedAt: at, PriceCents: 9900,
			Currency: "CNY"},
		{ID: "a-1", SaleID: "phone", Status: order.Processing, Quantity: 1, AdmittedAt: at, Currency: "EUR"},
		{ID: "a-1", SaleID: "phone", Status: order.Failed, Reason: "said \"no\"\n\u00e4\u2028", Quantity: 1,
			AdmittedAt: at, EndedAt: at},
		{ID: "a-1", SaleID: "phone", Status: order.Paid, Quantity: 1, AdmittedAt: at, ConfirmedAt: at, PayBy: at,
			PaidAt: at, PriceCents: -1},
		{ID: "a-1", SaleID: "phone", Status: order.Expired, Quantity: 1, AdmittedAt: at, EndedAt: at, Refund: true},
	} {
		want, err := json.Marshal(api.OrderOf(v, pace))
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(appendOrder(nil, v, pace)))
	}
}

// The two ways to write a refusal must not drift apart.
func TestPreparedRefusalsEqualTheWrittenOnes(t *testing.T) {
	t.Parallel()
	a := newAnswers("")
	require.Len(t, a.prepared, 4)
	for code, p := range a.prepared {
		w := httptest.NewRecorder()
		c, _ := gin.CreateTestContext(w)
		c.Writer.Header()["X-Request-Id"] = []string{"the-id"}
		api.WriteProblem(c, api.NewProblem(code, api.DetailOf(code, nil)))
		require.Equal(t, w.Body.String(), string(p.head)+"the-id"+string(p.tail))
		require.Equal(t, w.Code, p.status)
		require.Equal(t, w.Header().Get("Content-Type"), a.problem[0])
		require.Equal(t, w.Header().Get("Retry-After") != "", p.retry)
	}
	require.NotContains(t, newAnswers("https://shop.example/busy").prepared, api.CodeQueueFull,
		"a browser must be sent there")
}
