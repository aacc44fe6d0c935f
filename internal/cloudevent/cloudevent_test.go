package cloudevent

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAttributesOfAnOrder(t *testing.T) {
	t.Parallel()
	a := OfOrder("sluice", Order{ID: "o1", Event: "order.paid", Sale: "phone", At: time.UnixMilli(1_700_000_000_120)})
	text, err := json.Marshal(a)
	require.NoError(t, err)
	require.JSONEq(t, `{"specversion": "1.0", "id": "o1:order.paid", "source": "/sluice/orders", "type": "order.paid",
		"subject": "o1", "time": "2023-11-14T22:13:20.120Z", "datacontenttype": "application/json", "sale": "phone"}`,
		string(text))
	h := http.Header{}
	a.SetHeaders(h)
	require.Equal(t, http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"o1:order.paid"},
		"Ce-Source": {"/sluice/orders"}, "Ce-Type": {"order.paid"}, "Ce-Subject": {"o1"},
		"Ce-Time": {"2023-11-14T22:13:20.120Z"}, "Ce-Sale": {"phone"}}, h)
	for name := range h {
		require.Equal(t, http.CanonicalHeaderKey(name), name, "else it cannot be read back")
	}
}

// What another system sends never has the type of an order's event.
func TestAttributesOfAMessage(t *testing.T) {
	t.Parallel()
	for event, want := range map[string]string{"": "message", "points.added": "points.added",
		"order.paid": "message.order.paid"} {
		a := OfMessage("shop-2", Message{Topic: "points", ID: "m1", Event: event})
		require.Equal(t, Attributes{SpecVersion: "1.0", ID: "m1", Source: "/shop-2/topics/points", Type: want,
			DataContentType: "application/json"}, a)
	}
}

func TestHeadersAreEncoded(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"plain/1.0:a_b": "plain/1.0:a_b",
		"Euro € 😀": "Euro%20%E2%82%AC%20%F0%9F%98%80",
		`a"b%c`:    "a%22b%25c", "x\r\ny: z": "x%0D%0Ay:%20z"} {
		require.Equal(t, want, encode(value))
	}
}
