package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/order"
)

func TestHubIsBoundedAndForgets(t *testing.T) {
	t.Parallel()
	h := newHub(nil, 2)
	first, leaveFirst, ok := h.wait("a")
	require.True(t, ok)
	second, leaveSecond, ok := h.wait("a")
	require.True(t, ok)
	_, _, ok = h.wait("b")
	require.False(t, ok)
	h.wake("a")
	h.wake("a") // a waiter that has not looked yet is not waited for
	h.wake("b")
	<-first
	<-second
	leaveFirst()
	h.wake("a")
	<-second
	require.Empty(t, first)
	_, leaveThird, ok := h.wait("b")
	require.True(t, ok)
	leaveSecond()
	leaveThird()
	require.Empty(t, h.waiters)
	require.Zero(t, h.count)
}

// Each status is delivered once at once, whatever is forgotten.
func TestDeliveredCacheIsBounded(t *testing.T) {
	t.Parallel()
	delivered := newDeliveredCache()
	due := func(id string) order.View { return order.View{ID: id, Status: order.Confirmed, PayBy: time.Unix(1, 0)} }
	for i := range maxDelivered + maxDelivered/2 {
		delivered.add(due(fmt.Sprint(i)))
	}
	require.True(t, delivered.has(due(fmt.Sprint(maxDelivered/2))))
	refund := due(fmt.Sprint(maxDelivered / 2))
	refund.Refund = true
	require.False(t, delivered.has(refund), "that money must go back is news")
	for i := range maxDelivered {
		delivered.add(due(fmt.Sprint("more", i)))
	}
	require.False(t, delivered.has(due("1")))
	require.LessOrEqual(t, len(delivered.young)+len(delivered.old), 2*maxDelivered)
	delivered.add(order.View{ID: "queued", Status: order.Queued})
	require.False(t, delivered.has(order.View{ID: "queued", Status: order.Queued}))
}
