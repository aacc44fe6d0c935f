package gateway_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway"
	"sluice/gateway/server"
	"sluice/internal/testkit/stack"
)

// series returns the values of a counter by its labels' values, in the order of the labels' names.
func (s *world) series(name string) map[string]float64 {
	s.T.Helper()
	families, err := s.Registry.Gather()
	require.NoError(s.T, err)
	values := map[string]float64{}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, one := range family.GetMetric() {
			var labels []string
			for _, label := range one.GetLabel() {
				labels = append(labels, label.GetValue())
			}
			values[strings.Join(labels, " ")] = one.GetCounter().GetValue()
		}
	}
	return values
}

// kept is what the gateway holds for single sales.
type kept struct{ admissions, looks, reads, admitted, rejected int }

func (s *world) kept() (k kept) {
	g := s.Gateway
	k.admissions, k.looks, k.reads = g.Admitter().Coalescer.Keys(), g.LineReads().Keys(), g.LedgerReads().Keys()
	k.admitted = len(s.series("sluice_orders_admitted_total"))
	k.rejected = len(s.series("sluice_orders_rejected_total"))
	return k
}

// What was kept for sales that have closed is let go; a sale that goes on keeps its figures, and
// late shoppers are counted.
func TestClosedSalesAreLetGo(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	s := newWorld(t, stack.Quiet, func(c *stack.Setup) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	const sales = 100
	ids := s.sellMany(sales)
	for _, id := range ids {
		path := s.Place("ann", id)
		s.Refused(api.CodeLimitReached, s.Order("ann", id, ""))
		s.Refused(api.CodeNotFound, s.Get("bob", path))
		s.Get("ann", "/v1/sales/"+id+"/orders/"+stack.NewUUID())
	}
	require.Equal(t, kept{sales, sales, sales, sales, sales}, s.kept())
	s.Gateway.Forget()
	s.Gateway.Forget()
	require.Equal(t, kept{sales, sales, sales, sales, sales}, s.kept(), "they are on sale")

	over := time.Now().Add(-2 * time.Hour).UnixMilli()
	require.NoError(t, s.DB.Write.Exec("UPDATE sales SET starts_at = ?, ends_at = ? WHERE id <> 'sale-7'",
		over-1, over).Error)
	require.NoError(t, s.SaleCache.Refresh(t.Context()))
	later.Store(int64(2 * time.Minute))
	s.Gateway.Forget()
	s.Gateway.Forget()
	require.Equal(t, kept{admitted: 1, rejected: 1}, s.kept())
	require.EqualValues(t, 1, s.series("sluice_orders_admitted_total")["sale-7"])

	s.Refused(api.CodeLimitReached, s.Order("ann", "sale-8", ""))
	s.Gateway.Forget()
	require.Equal(t, kept{admissions: 1, admitted: 2, rejected: 2}, s.kept())
	later.Add(int64(2 * time.Minute))
	s.Gateway.Forget()
	require.Equal(t, kept{admitted: 1, rejected: 1}, s.kept())
	s.Place("cem", "sale-7")
}

// Whoever hangs up makes room for the next, on the connections of the rush too, whose requests do not end with them.
func TestWhoHangsUpMakesRoom(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 100)
	a := s.Gateway.Admitter()
	a.Coalescer.Bound, a.Coalescer.Timeout = 3, time.Hour
	reached, hanging := hangFirst(a, "phone")
	release := sync.OnceFunc(func() { close(hanging) })
	t.Cleanup(release)
	ln, err := server.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	const leaver = "leaver"
	turnedAway := make(chan struct{}) // closed when the gateway has done with the leaver
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Gateway.Handler().ServeHTTP(w, r)
		if user, _ := s.Gateway.Auth.User(r); user == leaver {
			close(turnedAway)
		}
	})
	srv := server.NewServer(server.DefaultHTTPConfig(), handler, nil, gateway.PlainRequest, stack.QuietLog())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	waiting := func() int { return a.Coalescer.Waiting("phone") }
	order := func(user string) (conn net.Conn, status <-chan string) {
		conn, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn,
			"POST /v1/sales/phone/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer %s\r\nContent-Length: "+
				"0\r\n\r\n",
			s.Token(user, false))
		require.NoError(t, err)
		answer := make(chan string, 1)
		go func() {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			answer <- line
		}()
		return conn, answer
	}
	_, first := order(stack.NewUUID())
	<-reached
	var answers []<-chan string
	var leaves net.Conn
	for i, user := range []string{stack.NewUUID(), leaver, stack.NewUUID()} {
		conn, answer := order(user)
		if user == leaver {
			leaves = conn
		} else {
			answers = append(answers, answer)
		}
		require.Eventually(t, func() bool { return waiting() == i+1 }, stack.Patience, time.Millisecond)
	}
	_, crowded := order(stack.NewUUID())
	require.Contains(t, <-crowded, "503")
	require.NoError(t, leaves.Close())
	gone := func() bool { return isClosed(turnedAway) }
	for room := false; !room; { // all are refused but the one that finds room
		_, next := order(stack.NewUUID())
		require.Eventually(t, func() bool { return len(next) == 1 || gone() }, stack.Patience, time.Millisecond)
		if room = gone(); room {
			answers = append(answers, next)
		} else {
			require.Contains(t, <-next, "503")
		}
	}
	require.Equal(t, 3, waiting())
	release()
	for _, answer := range append(answers, first) {
		require.Contains(t, <-answer, "202")
	}
	require.NoError(t, srv.Shutdown(t.Context(), stack.Patience))
	require.NoError(t, <-served)
	require.EqualValues(t, 4, s.View("phone").Seq, "who had gone has no order")
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
