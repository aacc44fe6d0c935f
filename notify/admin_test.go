package notify

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdminListsInPages(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.insert(t, "email", 5)
		b.insert(t, "sms", 3)
		require.NoError(t, b.db.Write.Model(&Row{}).Where("1 = 1").Updates(map[string]any{"state": StateDead,
			"next_at": 5}).Error)
		require.NoError(t, b.db.Write.Model(&Row{}).Where("order_id = ?",
			"order-0001").Updates(map[string]any{"next_at": 1}).Error)
		b.insert(t, "webhook", 2)
		d := NewAdmin(b.db.Write, b.db.Read, b.clock.Now, func() {})
		list := func(channel string) (keys []string) {
			for cursor, first := "", true; first || cursor != ""; first = false {
				rows, next, err := d.List(t.Context(), StateDead, channel, cursor, 3)
				require.NoError(t, err)
				require.LessOrEqual(t, len(rows), 3)
				for _, r := range rows {
					keys = append(keys, r.Channel+" "+r.OrderID)
				}
				cursor = next
			}
			return keys
		}
		require.Equal(t, []string{"sms order-0002", "sms order-0000", "sms order-0001",
			"email order-0004", "email order-0003", "email order-0002", "email order-0000", "email order-0001"}, list(
			""))
		require.Equal(t, []string{"sms order-0002", "sms order-0000", "sms order-0001"}, list("sms"))
		require.Empty(t, list("pigeon"))
		pending, next, err := d.List(t.Context(), StatePending, "", "", 100)
		require.NoError(t, err)
		require.Len(t, pending, 2)
		require.Empty(t, next)
		for _, bad := range []string{"x", "AAAA", "e30x"} {
			_, _, err = d.List(t.Context(), StateDead, "", bad, 3)
			require.ErrorIs(t, err, ErrBadCursor)
		}
	})
}

func TestAdminRequeuesTheDead(t *testing.T) {
	t.Parallel()
	onEveryDatabase(t, func(t *testing.T, b *bench) {
		b.cfg.Retries = 0
		b.insert(t, "email", requeueChunk+7)
		well := false
		ch := &recorder{name: "email", answer: func(Message) Result {
			if well {
				return Delivered()
			}
			return Retry("no")
		}}
		r := b.relay(ch)
		for len(b.rows(t, StatePending)) > 0 {
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
		}
		woken := 0
		d := NewAdmin(b.db.Write, b.db.Read, b.clock.Now, func() { woken++ })
		require.NoError(t, d.Retry(t.Context(), "order-0003", EventConfirmed, "email", nil))
		require.Equal(t, 1, woken)
		require.ErrorIs(t, d.Retry(t.Context(), "order-0003", EventConfirmed, "email", nil), ErrNotDead)
		require.ErrorIs(t, d.Retry(t.Context(), "order-0003", EventPaid, "email", nil), ErrNoNotification)
		row := b.rows(t, StatePending)[0]
		require.Zero(t, row.Attempts)
		require.Equal(t, "no", row.LastError, "why it died stays to be read until it is delivered")
		n, more, err := d.RetryAll(t.Context(), "email", nil)
		require.NoError(t, err)
		require.EqualValues(t, requeueChunk+6, n)
		require.False(t, more)
		n, _, err = d.RetryAll(t.Context(), "email", nil)
		require.NoError(t, err)
		require.Zero(t, n)
		well = true
		for len(b.rows(t, StatePending)) > 0 {
			_, err := r.step(t.Context(), r.loops[0])
			require.NoError(t, err)
		}
		require.Len(t, b.rows(t, StateDelivered), requeueChunk+7, fmt.Sprint(woken))
	})
}
