package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
)

// lose empties Redis and lets the reconciler load the line anew.
func (s *world) lose() {
	s.T.Helper()
	require.NoError(s.T, s.Redis.FlushAll(s.T.Context()).Err())
	s.Sync()
}

// lostIs requires that g tells of a lost order.
func (s *world) lostIs(g stack.Answer) stack.Answer {
	s.T.Helper()
	require.Equal(s.T, http.StatusOK, g.Status, g.Raw)
	require.Equal(s.T, "failed", g.Text("status"), g.Raw)
	require.Equal(s.T, "lost", g.Text("reason"), g.Raw)
	return g
}

// news counts the messages of failed orders that wait to be told.
func (s *world) failures() int64 {
	s.T.Helper()
	var n int64
	require.NoError(s.T, s.DB.Read.Model(&notify.Row{}).Where("event = ?", notify.EventFailed).Count(&n).Error)
	return n
}

func (s *world) rowsOf(sale string) int64 {
	s.T.Helper()
	var n int64
	require.NoError(s.T, s.DB.Read.Model(&order.Row{}).Where("sale_id = ?", sale).Count(&n).Error)
	return n
}

// An order that no store knows any more is told by its id alone, once and for all, wherever it is asked for.
func TestALostOrderIsTold(t *testing.T) {
	t.Parallel()
	for _, header := range [][]string{nil, {key, "one"}} {
		s := newWorld(t, stack.Quiet)
		s.Sell("phone", 5, stack.LimitOf(2))
		first := s.Order("ann", "phone", `{"quantity":2}`, header...)
		path, receipt := first.Header.Get("Location"), first.Text("receipt")
		s.lose()
		s.Refused(api.CodeNotFound, s.Get("bob", path))
		s.Refused(api.CodeNotFound, s.Get("ann", path+"0"))
		s.Refused(api.CodeNotFound, s.Get("ann", strings.ToUpper(path)))
		require.Zero(t, s.rowsOf("phone"), "nobody but its owner ends it")

		told := s.lostIs(s.Get("ann", path))
		require.NotEmpty(t, told.Text("ended_at"))
		require.NotEmpty(t, told.Text("admitted_at"))
		require.EqualValues(t, 1, s.failures(), "the shop hears of it")
		require.Equal(t, told.Raw, s.Get("ann", path+"?wait=20s").Raw, "it is final")
		require.Equal(t, told.Raw, s.Get("ann", path, gateway.ReceiptHeader, receipt).
			Raw, "also for who comes with the receipt")
		require.Contains(t, s.Get("ann", path+"/events").Raw, `"reason":"lost"`)
		require.Contains(t, s.Get("ann", "/v1/orders").Raw, first.Text("order_id"))
		s.Refused(api.CodeNotFound, s.Get("bob", path))
		s.Refused(api.CodeNotCancellable, s.Do("ann", http.MethodDelete, path, ""))
		require.EqualValues(t, 1, s.rowsOf("phone"))
		require.EqualValues(t, 1, s.failures())
		require.EqualValues(t, 5, s.View("phone").Stock, "it holds no unit")
		s.Clean()
		s.lose()
		require.Equal(t, told.Raw, s.Get("ann", path).Raw, "and it outlives a rebuild")
		s.Clean()
	}
}

// Nothing is called lost before both stores have said that they do not know it.
func TestNothingIsLostWhileAStoreCannotBeAsked(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct, c.Still = proxy.Addr(), server.Addr(), true })
	s.Sell("phone", 5)
	path := s.Place("ann", "phone")
	proxy.Cut()
	s.Refused(api.CodeUnavailable, s.Get("ann", path))
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool {
		return s.Get("ann", path).Text("status") == "queued"
	}, stack.Patience, 20*time.Millisecond)

	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	require.NotEmpty(t, s.Refused(api.CodeUnavailable, s.Get("ann", path)).
		Header.Get("Retry-After"), "the line is not loaded yet")
	s.Sync()
	require.NoError(t, s.Redis.HSet(t.Context(), "sluice:{phone/0}:meta", "gate", "1").Err())
	s.Refused(api.CodeUnavailable, s.Get("ann", path))
	require.NoError(t, s.Redis.HDel(t.Context(), "sluice:{phone/0}:meta", "gate").Err())
	require.Zero(t, s.rowsOf("phone"))
	s.lostIs(s.Get("ann", path))
	bob := s.Place("bob", "phone")
	require.NoError(t, s.Redis.HDel(t.Context(), "sluice:{phone/0}:orders",
		bob[strings.LastIndexByte(bob, '/')+1:]).Err())
	require.NoError(t, s.DB.Close())
	s.Refused(api.CodeUnavailable, s.Get("bob", bob))
}

// What the line has forgotten is not lost: the database knows it.
func TestAnOrderThatHasARowIsNotLost(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 5)
	path := s.Place("ann", "phone")
	stop := s.Work()
	s.Until("ann", path, "confirmed")
	stop()
	require.NoError(t, s.Redis.Del(t.Context(), "sluice:{phone/0}:orders", "sluice:{phone/0}:done").Err())
	require.Equal(t, "confirmed", s.Get("ann", path).Text("status"))
}

// Whoever waits for an order is told that it was lost, not that it never was.
func TestWhoWaitsIsToldOfTheLoss(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 5)
	path := s.Place("ann", "phone")
	waiting, token := make(chan stack.Answer, 1), s.Token("ann", false)
	go func() {
		g, _ := s.TryGet(t.Context(), token, path+"?wait=20s")
		waiting <- g
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr+path+"/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	stream, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), `"queued"`) {
	}
	require.Eventually(t, func() bool {
		return s.Gateway.Waiting() == 2
	}, stack.Patience, time.Millisecond, "both wait")
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.lostIs(<-waiting)
	found := false
	for !found && lines.Scan() {
		found = strings.Contains(lines.Text(), `"reason":"lost"`)
	}
	require.True(t, found, "the stream says so, too")
}

// When the sale is over and its line dropped, an order without a row was lost, and its receipt says how much of it.
func TestALossIsToldAfterTheSale(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 9, stack.LimitOf(3))
	ann, bob, cem := s.Order("ann", "phone", `{"quantity":3}`), s.Order("bob", "phone", `{"quantity":2}`),
		s.Order("cem", "phone", "")
	s.lose()
	ended := func(ago time.Duration) {
		t.Helper()
		now := time.Now()
		require.NoError(t, s.DB.Write.Exec("UPDATE sales SET starts_at = ?, ends_at = ?", now.Add(-ago-time.Hour).
			UnixMilli(), now.Add(-ago).UnixMilli()).Error)
		s.Sync()
	}
	ended(30 * time.Minute)
	require.NoError(t, s.Redis.FlushAll(t.Context()).Err())
	s.Refused(api.CodeUnavailable, s.Get("ann", ann.Header.Get("Location")))
	ended(2 * time.Hour)
	require.False(t, s.View("phone").Exists)
	require.EqualValues(t, 3, s.lostIs(s.Get("ann", ann.Header.Get("Location"), gateway.ReceiptHeader,
		ann.Text("receipt"))).Num("quantity"))
	require.EqualValues(t, 1, s.lostIs(s.Get("bob", bob.Header.Get("Location"))).
		Num("quantity"), "an id says no quantity")
	require.EqualValues(t, 2, s.rowsOf("phone"))

	// Much later rows may have been deleted: nobody knows any more what became of it.
	ended(8 * 24 * time.Hour)
	s.Refused(api.CodeNotFound, s.Get("cem", cem.Header.Get("Location"), gateway.ReceiptHeader, cem.Text("receipt")))
	s.lostIs(s.Get("bob", bob.Header.Get("Location")))
}

// A sale from before ids were signed goes on as it was: its ids prove nothing, its receipts do.
func TestASaleWithoutAKeyTellsNothingByIDs(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 5)
	require.NoError(t, s.DB.Write.Model(&inventory.Sale{}).Where("id = 'phone'").Update("id_key", "").Error)
	require.NoError(t, s.SaleCache.Refresh(t.Context()))
	first := s.Order("ann", "phone", "", key, "one")
	require.Equal(t, gateway.OrderID(inventory.Sale{ID: "phone"}, "ann", "one"), first.Text("order_id"))
	s.lose()
	s.Refused(api.CodeNotFound, s.Get("ann", first.Header.Get("Location")))
	require.Contains(t, []string{"queued", "processing"}, s.Get("ann", first.Header.Get("Location"),
		gateway.ReceiptHeader, first.Text("receipt")).Text("status"))
	s.Clean()
}

// Whoever repeats the request after its order was lost reads the first answer's order again, and it stays ended.
func TestALostOrderIsNotMadeAnewByItsKey(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 5)
	first := s.Order("ann", "phone", "", key, "one")
	s.lose()
	told := s.lostIs(s.Get("ann", first.Header.Get("Location")))
	again := s.Order("ann", "phone", "", key, "one")
	require.Equal(t, first.Text("order_id"), again.Text("order_id"), again.Raw)
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Equal(t, told.Raw, s.Get("ann", first.Header.Get("Location")).Raw)
	require.EqualValues(t, 5, s.View("phone").Stock)
	require.EqualValues(t, 1, s.rowsOf("phone"))
	s.Clean()
}
