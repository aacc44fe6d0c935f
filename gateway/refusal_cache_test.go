package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
	"sluice/order/lookup"
)

// local lets strangers try until the gateway answers one of them by itself.
func (s *world) local(code api.Code, sale string) {
	s.T.Helper()
	require.Eventually(s.T, func() bool {
		return s.Asked(func() { s.Refused(code, s.Order(stack.NewUUID(), sale, "")) }) == 0
	}, stack.Patience, time.Millisecond, "every refusal asks Redis")
}

func TestSoldOutIsAnsweredWithoutRedis(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 2)
	won := s.Place("ann", "phone", api.IdempotencyHeader, "first")
	s.Place("bob", "phone")
	s.local(api.CodeSoldOut, "phone")
	// Whoever was in the line still gets the answer that is theirs, whatever is known about everybody else.
	for range 20 {
		require.Equal(t, won[len(won)-36:], s.Refused(api.CodeLimitReached, s.Order("ann", "phone", "")).
			Text("order_id"))
		again := s.Order("ann", "phone", "", api.IdempotencyHeader, "first")
		require.Equal(t, won, again.Header.Get("Location"), again.Raw)
		s.Refused(api.CodeSoldOut, s.Order("zoe", "phone", ""))
	}
	s.Clean()
}

// An order that was cancelled no longer holds anything, and its key still answers.
func TestWhoCancelledIsRemembered(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	gone := s.Place("ann", "phone", api.IdempotencyHeader, "first")
	require.Equal(t, "cancelled", s.Do("ann", http.MethodDelete, gone, "").Text("status"))
	s.Place("bob", "phone")
	s.local(api.CodeSoldOut, "phone")
	require.Equal(t, gone, s.Order("ann", "phone", "", api.IdempotencyHeader, "first").Header.Get("Location"))
}

// A returned unit is sold. Until then the gateway refuses by itself for no longer than Redis told, counted from the
// last request that asked: however slow the machine, such a refusal begins within that time of the answer before.
func TestReturnedUnitEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	const toldAtMost = 110 * time.Millisecond // admit.lua: repeated and renewed
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	won := s.Place("ann", "phone")
	s.local(api.CodeSoldOut, "phone")
	answered := time.Now() // the newest answer that asked Redis came no later
	require.Equal(t, "cancelled", s.Do("ann", http.MethodDelete, won, "").Text("status"))
	for began := time.Now(); ; {
		var g stack.Answer
		sent := time.Now()
		require.Less(t, sent.Sub(began), stack.Patience)
		asked := s.Asked(func() { g = s.Order("bob", "phone", "") })
		if g.Status == http.StatusAccepted {
			return
		}
		s.Refused(api.CodeSoldOut, g)
		if asked > 0 {
			answered = time.Now()
			continue
		}
		require.LessOrEqual(t, sent.Sub(answered), toldAtMost, "refused without asking")
	}
}

func TestOperatorsChangeEndsTheLocalRefusal(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 5)
	s.SetState("phone", inventory.Paused)
	s.local(api.CodeSalePaused, "phone")
	s.SetState("phone", inventory.Open)
	s.Place("ann", "phone")
}

// A full line has room again with the next claim: nobody is refused for longer than that is unknown.
func TestFullLineIsAnsweredWithoutRedisForAMoment(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 100, func(n *inventory.NewSale) { n.Cap = 2 })
	s.Place("ann", "phone")
	s.Place("bob", "phone")
	s.local(api.CodeQueueFull, "phone")
	s.Refused(api.CodeLimitReached, s.Order("ann", "phone", ""))
	stop := s.Work()
	require.Eventually(t, func() bool {
		return s.Order("zoe", "phone", "").Status == http.StatusAccepted
	}, stack.Patience, time.Millisecond)
	stop()
}

// elsewhere places orders for phone through another gateway, which hears no news, and returns the refusal's code.
func (s *world) elsewhere() (place func(user string) string) {
	other, err := gateway.New(gateway.DefaultConfig(), gateway.Parts{Auth: s.Gateway.Auth, Limiter: s.Limiter,
		Lines: s.Lines, SaleCache: s.SaleCache, Reconciler: s.Reconciler,
		Finder: lookup.NewFinder(s.DB, s.Lines, s.SaleCache), Canceller: s.Gateway.Canceller}, stack.QuietLog(),
		prometheus.NewRegistry(), time.Now)
	require.NoError(s.T, err)
	s.T.Cleanup(other.Admitter().Wait)
	return func(user string) string {
		r := httptest.NewRequestWithContext(s.T.Context(), http.MethodPost, "/v1/sales/phone/orders", nil)
		r.Header.Set("Authorization", "Bearer "+s.Token(user, false))
		w := httptest.NewRecorder()
		other.Handler().ServeHTTP(w, r)
		var body struct{ Code string }
		require.NoError(s.T, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
		return body.Code
	}
}

// Whoever wins a unit that came back never reads "sold out" through a gateway that has not heard that it did.
func TestWinnerOfAReturnedUnitNeverReadsSoldOut(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 1)
	there := s.elsewhere()
	holder := "first"
	won := s.Place(holder, "phone")
	for round := range 20 {
		require.Eventually(t, func() bool {
			return s.Asked(func() { require.Equal(t, string(api.CodeSoldOut), there(stack.NewUUID())) }) == 0
		}, stack.Patience, time.Millisecond, "the other gateway refuses by itself")
		require.Equal(t, http.StatusOK, s.Do(holder, http.MethodDelete, won, "").Status)
		holder = fmt.Sprintf("winner-%d", round)
		var g stack.Answer
		since := time.Now()
		for g.Status != http.StatusAccepted {
			require.Less(t, time.Since(since), stack.Patience)
			g = s.Order(holder, "phone", "")
		}
		require.Equal(t, string(api.CodeLimitReached), there(holder))
		won = g.Header.Get("Location")
	}
	s.Clean()
}

// Two gateways share one line: each recognises whom the other let in.
func TestSeenUsersHoldWhoCameThroughAnother(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 50, func(n *inventory.NewSale) { n.Cap = 100 })
	there := s.elsewhere()
	for i := range 48 {
		s.Place(string(rune('a'+i%26))+string(rune('a'+i/26)), "phone")
	}
	require.Empty(t, there("elsewhere"))
	require.Empty(t, there("elsewhere-too"))
	s.local(api.CodeSoldOut, "phone")
	s.Refused(api.CodeLimitReached, s.Order("elsewhere", "phone", ""))
	require.Eventually(t, func() bool {
		return s.Asked(func() { require.Equal(t, string(api.CodeSoldOut), there(stack.NewUUID())) }) == 0
	}, stack.Patience, time.Millisecond)
	require.Equal(t, string(api.CodeLimitReached), there("aa"))
	require.Equal(t, string(api.CodeLimitReached), there("elsewhere"))
}
