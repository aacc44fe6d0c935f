package form

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify"
)

// stored returns fields as Redis gives them back.
func stored(fields []any) map[string]any {
	entry := map[string]any{}
	for i := 0; i < len(fields); i += 2 {
		entry[fields[i].(string)] = fmt.Sprint(fields[i+1])
	}
	return entry
}

func TestAnEntryIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_120)
	order := notify.Facts{Status: "paid", Refund: "again", Quantity: 2, PriceCents: 9900, Currency: "CNY",
		AdmittedAt: at, ConfirmedAt: at.Add(time.Second), PayBy: at.Add(time.Minute), PaidAt: at.Add(2 * time.Second)}
	for _, event := range notify.Events() {
		m := notify.Message{OrderID: "o1", Event: event, SaleID: "s1", UserID: "u1", CreatedAt: at.Add(time.Hour)}
		e := Of(m, order)
		require.Equal(t, Entry{ID: "o1:" + event, Type: event, Version: Version, OrderID: "o1", SaleID: "s1",
			UserID: "u1", At: "2023-11-14T23:13:20.120Z", Facts: e.Data.Facts}, ReadEntry(stored(Fields(m, e))))
	}
}

// Entries of before version 1, and those of orders that nobody knows, have no more than they had.
func TestABareEvent(t *testing.T) {
	t.Parallel()
	m := notify.Message{OrderID: "o1", Event: notify.EventPaid, SaleID: "s1", UserID: "u1",
		CreatedAt: time.UnixMilli(1_700_000_000_000)}
	body, err := json.Marshal(In(nil, m))
	require.NoError(t, err)
	require.Equal(t, `{"type":"order.paid","timestamp":"2023-11-14T22:13:20Z",`+
		`"data":{"order_id":"o1","sale_id":"s1","user_id":"u1"}}`, string(body))
	text, err := json.Marshal(ReadEntry(stored(Fields(m, In(nil, m)))))
	require.NoError(t, err)
	require.Equal(t, `{"id":"o1:order.paid","type":"order.paid","order_id":"o1","sale_id":"s1","user_id":"u1",`+
		`"at":"2023-11-14T22:13:20.000Z"}`, string(text))
	require.Equal(t, Entry{}, ReadEntry(map[string]any{"of": "somebody else"}))
}
