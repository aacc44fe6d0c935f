package gateway

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/inventory"
	"sluice/order"
)

// The two ways to write an order must not drift apart.
func TestOrdersAreWrittenAlike(t *testing.T) {
	t.Parallel()
	pace := inventory.Drain{PerSecond: 3, InWork: 4}
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
