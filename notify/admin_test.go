package notify_test

import (
	"testing"

	"sluice/internal/testkit/outbox"
	"sluice/notify"

	"github.com/stretchr/testify/require"
)

func TestAdminListsInPages(t *testing.T) {
	t.Parallel()
	outbox.OnEveryDatabase(t, func(t *testing.T, b *outbox.Bench) {
		b.Insert(t, "email", 5)
		b.Insert(t, "sms", 3)
		require.NoError(t, b.DB.Write.Model(&notify.Row{}).Where("1 = 1").Updates(map[string]any{
			"state": notify.StateDead, "next_at": 5}).Error)
		require.NoError(t, b.DB.Write.Model(&notify.Row{}).Where("order_id = ?",
			"order-0001").Updates(map[string]any{"next_at": 1}).Error)
		b.Insert(t, "webhook", 2)
		d := notify.NewAdmin(b.DB.Write, b.DB.Read, b.Clock.Now, func() {})
		list := func(channel string) (keys []string) {
			for cursor, first := "", true; first || cursor != ""; first = false {
				rows, next, err := d.List(t.Context(), notify.StateDead, channel, cursor, 3)
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
		pending, next, err := d.List(t.Context(), notify.StatePending, "", "", 100)
		require.NoError(t, err)
		require.Len(t, pending, 2)
		require.Empty(t, next)
		for _, bad := range []string{"x", "AAAA", "e30x"} {
			_, _, err = d.List(t.Context(), notify.StateDead, "", bad, 3)
			require.ErrorIs(t, err, notify.ErrBadCursor)
		}
	})
}

func TestAdminRequeuesTheDead(t *testing.T) {
	t.Parallel()
	outbox.OnEveryDatabase(t, func(t *testing.T, b *outbox.Bench) {
		b.Insert(t, "email", notify.RequeueChunk+7)
		require.NoError(t, b.DB.Write.Model(&notify.Row{}).Where("1 = 1").Updates(map[string]any{
			"state": notify.StateDead, "attempts": 1, "next_at": 5, "last_error": "no"}).Error)
		woken := 0
		d := notify.NewAdmin(b.DB.Write, b.DB.Read, b.Clock.Now, func() { woken++ })
		require.NoError(t, d.Retry(t.Context(), "order-0003", notify.EventConfirmed, "email", nil))
		require.Equal(t, 1, woken)
		require.ErrorIs(t, d.Retry(t.Context(), "order-0003", notify.EventConfirmed, "email", nil), notify.ErrNotDead)
		require.ErrorIs(t, d.Retry(t.Context(), "order-0003", notify.EventPaid, "email", nil), notify.ErrNoNotification)
		row := b.Rows(t, notify.StatePending)[0]
		require.Zero(t, row.Attempts)
		require.Equal(t, "no", row.LastError, "why it died stays to be read until it is delivered")
		n, more, err := d.RetryAll(t.Context(), "email", nil)
		require.NoError(t, err)
		require.EqualValues(t, notify.RequeueChunk+6, n)
		require.False(t, more)
		n, _, err = d.RetryAll(t.Context(), "email", nil)
		require.NoError(t, err)
		require.Zero(t, n)
		require.Len(t, b.Rows(t, notify.StatePending), notify.RequeueChunk+7)
		require.Equal(t, 3, woken, "once for each change")
	})
}
