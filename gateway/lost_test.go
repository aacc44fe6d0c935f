package gateway

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/notify"
	"sluice/order"
)

// lose empties Redis and lets the reconciler load the line anew.
func (s *stack) lose() {
	s.t.Helper()
	require.NoError(s.t, s.rdb.FlushAll(s.t.Context()).Err())
	s.carry()
}

// lostIs requires that g tells of a lost order.
func (s *stack) lostIs(g got) got {
	s.t.Helper()
	require.Equal(s.t, http.StatusOK, g.status, g.raw)
	require.Equal(s.t, "failed", g.text("status"), g.raw)
	require.Equal(s.t, "lost", g.text("reason"), g.raw)
	return g
}

// news counts the messages of failed orders that wait to be told.
func (s *stack) failures() int64 {
	s.t.Helper()
	var n int64
	require.NoError(s.t, s.db.Read.Model(&notify.Row{}).Where("event = ?", notify.EventFailed).Count(&n).Error)
	return n
}

func (s *stack) rowsOf(sale string) int64 {
	s.t.Helper()
	var n int64
	require.NoError(s.t, s.db.Read.Model(&order.Row{}).Where("sale_id = ?", sale).Count(&n).Error)
	return n
}

// An order that no store knows any more is told by its id alone, once and for all, wherever it is asked for.
func TestALostOrderIsTold(t *testing.T) {
	t.Parallel()
	for _, header := range [][]string{nil, {key, "one"}} {
		s := newStack(t, func(c *setup) { c.still = true })
		s.sell("phone", 5, limitOf(2))
		first := s.order("ann", "phone", `{"quantity":2}`, header...)
		path, receipt := first.header.Get("Location"), first.text("receipt")
		s.lose()
		s.refused(api.CodeNotFound, s.get("bob", path))
		s.refused(api.CodeNotFound, s.get("ann", path+"0"))
		s.refused(api.CodeNotFound, s.get("ann", strings.ToUpper(path)))
		require.Zero(t, s.rowsOf("phone"), "nobody but its owner ends it")

		told := s.lostIs(s.get("ann", path))
		require.NotEmpty(t, told.text("ended_at"))
		require.NotEmpty(t, told.text("admitted_at"))
		require.EqualValues(t, 1, s.failures(), "the shop hears of it")
		require.Equal(t, told.raw, s.get("ann", path+"?wait=20s").raw, "it is final")
		require.Equal(t, told.raw, s.get("ann", path, receiptHeader, receipt).
			raw, "also for who comes with the receipt")
		require.Contains(t, s.get("ann", path+"/events").raw, `"reason":"lost"`)
		require.Contains(t, s.get("ann", "/v1/orders").raw, first.text("order_id"))
		s.refused(api.CodeNotFound, s.get("bob", path))
		s.refused(api.CodeNotCancellable, s.do("ann", http.MethodDelete, path, ""))
		require.EqualValues(t, 1, s.rowsOf("phone"))
		require.EqualValues(t, 1, s.failures())
		require.EqualValues(t, 5, s.view("phone").Stock, "it holds no unit")
		s.clean()
		s.lose()
		require.Equal(t, told.raw, s.get("ann", path).raw, "and it outlives a rebuild")
		s.clean()
	}
}

// Nothing is called lost before both stores have said that they do not know it.
func TestNothingIsLostWhileAStoreCannotBeAsked(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newStack(t, func(c *setup) { c.redis, c.direct, c.still = proxy.Addr(), server.Addr(), true })
	s.sell("phone", 5)
	path := s.place("ann", "phone")
	proxy.Cut()
	s.refused(api.CodeUnavailable, s.get("ann", path))
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool {
		return s.get("ann", path).text("status") == "queued"
	}, patience, 20*time.Millisecond)

	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	require.NotEmpty(t, s.refused(api.CodeUnavailable, s.get("ann", path)).
		header.Get("Retry-After"), "the line is not loaded yet")
	s.carry()
	require.NoError(t, s.rdb.HSet(t.Context(), "sluice:{phone/0}:meta", "gate", "1").Err())
	s.refused(api.CodeUnavailable, s.get("ann", path))
	require.NoError(t, s.rdb.HDel(t.Context(), "sluice:{phone/0}:meta", "gate").Err())
	require.Zero(t, s.rowsOf("phone"))
	s.lostIs(s.get("ann", path))
	bob := s.place("bob", "phone")
	require.NoError(t, s.rdb.HDel(t.Context(), "sluice:{phone/0}:orders",
		bob[strings.LastIndexByte(bob, '/')+1:]).Err())
	require.NoError(t, s.db.Close())
	s.refused(api.CodeUnavailable, s.get("bob", bob))
}

// What the line has forgotten is not lost: the database knows it.
func TestAnOrderThatHasARowIsNotLost(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 5)
	path := s.place("ann", "phone")
	stop := s.work()
	s.until("ann", path, "confirmed")
	stop()
	require.NoError(t, s.rdb.Del(t.Context(), "sluice:{phone/0}:orders", "sluice:{phone/0}:done").Err())
	require.Equal(t, "confirmed", s.get("ann", path).text("status"))
}

// Whoever waits for an order is told that it was lost, not that it never was.
func TestWhoWaitsIsToldOfTheLoss(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.sell("phone", 5)
	path := s.place("ann", "phone")
	waiting, token := make(chan got, 1), s.token("ann", false)
	go func() {
		g, _ := fetch(t.Context(), s.client, http.MethodGet, "http://"+s.addr+path+"?wait=20s", token, "")
		waiting <- g
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path+"/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	stream, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), `"queued"`) {
	}
	require.Eventually(t, func() bool {
		s.gateway.hub.mu.Lock()
		defer s.gateway.hub.mu.Unlock()
		return s.gateway.hub.count == 2
	}, patience, time.Millisecond, "both wait")
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
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
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 9, limitOf(3))
	ann, bob, cem := s.order("ann", "phone", `{"quantity":3}`), s.order("bob", "phone", `{"quantity":2}`),
		s.order("cem", "phone", "")
	s.lose()
	ended := func(ago time.Duration) {
		t.Helper()
		now := time.Now()
		require.NoError(t, s.db.Write.Exec("UPDATE sales SET starts_at = ?, ends_at = ?", now.Add(-ago-time.Hour).
			UnixMilli(), now.Add(-ago).UnixMilli()).Error)
		s.carry()
	}
	ended(30 * time.Minute)
	require.NoError(t, s.rdb.FlushAll(t.Context()).Err())
	s.refused(api.CodeUnavailable, s.get("ann", ann.header.Get("Location")))
	ended(2 * time.Hour)
	require.False(t, s.view("phone").Exists)
	require.EqualValues(t, 3, s.lostIs(s.get("ann", ann.header.Get("Location"), receiptHeader, ann.text("receipt"))).
		num("quantity"))
	require.EqualValues(t, 1, s.lostIs(s.get("bob", bob.header.Get("Location"))).
		num("quantity"), "an id says no quantity")
	require.EqualValues(t, 2, s.rowsOf("phone"))

	// Much later rows may have been deleted: nobody knows any more what became of it.
	ended(8 * 24 * time.Hour)
	s.refused(api.CodeNotFound, s.get("cem", cem.header.Get("Location"), receiptHeader, cem.text("receipt")))
	s.lostIs(s.get("bob", bob.header.Get("Location")))
}

// A sale from before ids were signed goes on as it was: its ids prove nothing, its receipts do.
func TestASaleWithoutAKeyTellsNothingByIDs(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 5)
	require.NoError(t, s.db.Write.Model(&inventory.Sale{}).Where("id = 'phone'").Update("id_key", "").Error)
	require.NoError(t, s.saleCache.Refresh(t.Context()))
	first := s.order("ann", "phone", "", key, "one")
	require.Equal(t, new(orderIDs).next(inventory.Sale{ID: "phone"}, "ann", "one"), first.text("order_id"))
	s.lose()
	s.refused(api.CodeNotFound, s.get("ann", first.header.Get("Location")))
	require.Contains(t, []string{"queued", "processing"}, s.get("ann", first.header.Get("Location"), receiptHeader,
		first.text("receipt")).text("status"))
	s.clean()
}

// Whoever repeats the request after its order was lost reads the first answer's order again, and it stays ended.
func TestALostOrderIsNotMadeAnewByItsKey(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	s.sell("phone", 5)
	first := s.order("ann", "phone", "", key, "one")
	s.lose()
	told := s.lostIs(s.get("ann", first.header.Get("Location")))
	again := s.order("ann", "phone", "", key, "one")
	require.Equal(t, first.text("order_id"), again.text("order_id"), again.raw)
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	require.Equal(t, told.raw, s.get("ann", first.header.Get("Location")).raw)
	require.EqualValues(t, 5, s.view("phone").Stock)
	require.EqualValues(t, 1, s.rowsOf("phone"))
	s.clean()
}
