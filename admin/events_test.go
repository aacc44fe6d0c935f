package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit/stack"
	"sluice/notify"
	"sluice/notify/channel"
)

func (s *world) happen(event string, orders ...string) {
	s.T.Helper()
	var messages []notify.Message
	for _, id := range orders {
		messages = append(messages, notify.Message{OrderID: id, Event: event, SaleID: "phone", UserID: "ann",
			CreatedAt: time.UnixMilli(1_700_000_000_500)})
	}
	ledger := func(_ context.Context, ids []string) (map[string]notify.Facts, error) {
		known := map[string]notify.Facts{}
		for _, id := range ids {
			known[id] = notify.Facts{Status: "paid", Quantity: 2, PriceCents: 9900, Currency: "CNY",
				Refund: "again", PaidAt: time.UnixMilli(1_700_000_000_120)}
		}
		return known, nil
	}
	for _, r := range channel.NewStream(channel.DefaultStreamConfig().Behind("sluice"), s.Redis, ledger).
		Deliver(s.T.Context(), messages) {
		require.Equal(s.T, notify.Delivered(), r)
	}
}

// happened reads the next event of the log and returns its entry's id.
func happened(e *stack.Events, want string) string {
	e.T.Helper()
	one, err := e.Next()
	require.NoError(e.T, err)
	require.Equal(e.T, "order", one.Name)
	var body api.OrderEvent
	require.NoError(e.T, json.Unmarshal([]byte(one.Data), &body))
	require.Equal(e.T, want, body.ID)
	order, kind, _ := strings.Cut(want, ":")
	require.Equal(e.T, []string{order, kind, "phone", "ann"},
		[]string{body.OrderID, body.Type, body.SaleID, body.UserID})
	return one.ID
}

func TestEventLogReplaysAndFollows(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.happen(notify.EventConfirmed, "o1", "o2")
	all := s.EventLog("?from=0", "")
	first := happened(all, "o1:order.confirmed")
	happened(all, "o2:order.confirmed")
	fresh := s.EventLog("", "")
	s.happen(notify.EventRefundRequired, "o1")
	told, err := all.Next()
	require.NoError(t, err)
	require.JSONEq(t, `{"id": "o1:order.refund_required", "type": "order.refund_required", "version": 1,
		"order_id": "o1", "sale_id": "phone", "user_id": "ann", "at": "2023-11-14T22:13:20.500Z", "status": "paid",
		"refund": "again", "quantity": 2, "price_cents": 9900, "currency": "CNY",
		"paid_at": "2023-11-14T22:13:20.120Z"}`, told.Data)
	happened(fresh, "o1:order.refund_required")
	again := s.EventLog("?from=0", first)
	happened(again, "o2:order.confirmed")
	happened(again, "o1:order.refund_required")
	for _, bad := range []string{"soon", "-1", "1-2-3", "99999999999999999999"} {
		s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1/events?from="+bad, ""))
	}
	s.Draining.Store(true)
	for _, stream := range []*stack.Events{all, fresh, again} {
		bye, err := stream.Next()
		require.NoError(t, err)
		require.Equal(t, "bye", bye.Name)
		stream.Ends()
	}
	s.Refused(api.CodeUnavailable, s.Admin(http.MethodGet, "/admin/v1/events", ""))
}

// A reader says which events it wants. One who sees none of them hears how far it is.
func TestEventLogIsFiltered(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.happen(notify.EventConfirmed, "o1")
	s.happen(notify.EventPaid, "o1", "o2")
	happened(s.EventLog("?from=0&event=order.paid&event=order.failed&sale=ph*&sale=other", ""), "o1:order.paid")
	none := s.EventLog("?from=0&sale=other", "")
	line, err := none.Read.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "id: 0\n", line, "where to come back to")
	for _, bad := range []string{"event=order.eaten", "sale=[", "sale=", strings.Repeat("&sale=a", 21)} {
		s.Refused(api.CodeInvalidRequest, s.Admin(http.MethodGet, "/admin/v1/events?"+bad, ""))
	}
}

func TestEventLogReadsMoreThanAPage(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	orders := make([]string, 2*200+5)
	for i := range orders {
		orders[i] = stack.NewUUID()
	}
	s.happen(notify.EventPaid, orders...)
	log := s.EventLog("?from=0", "")
	for _, id := range orders {
		happened(log, id+":order.paid")
	}
}

func TestEventLogHasABoundOfReaders(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	var open []*stack.Events
	for range 32 {
		e := s.EventLog("", "")
		require.Equal(t, http.StatusOK, e.Resp.StatusCode)
		open = append(open, e)
	}
	s.Refused(api.CodeUnavailable, s.Admin(http.MethodGet, "/admin/v1/events", ""))
	open[0].Close()
	require.Eventually(t, func() bool {
		e := s.EventLog("", "")
		defer func() { _, _ = io.Copy(io.Discard, e.Read) }()
		defer e.Close()
		return e.Resp.StatusCode == http.StatusOK
	}, stack.Patience, 250*time.Millisecond)
}

func TestEventLogSendsReadersAwayWhenRedisFails(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	log := s.EventLog("", "")
	require.NoError(t, s.Redis.Set(t.Context(), "sluice:events", "no stream", 0).Err())
	log.Ends()
	require.Equal(t, string(api.CodeInternal), s.Admin(http.MethodGet, "/admin/v1/events", "").Text("code"))
}
