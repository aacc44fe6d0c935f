package channel

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/notify"
)

// ledgerOf returns a ledger that knows these orders.
func ledgerOf(known map[string]notify.Facts) notify.Ledger {
	return func(context.Context, []string) (map[string]notify.Facts, error) { return known, nil }
}

func TestStreamAppendsBoundedEntries(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			s := NewStream(StreamConfig{Key: "sluice:events", MaxLen: 100}, rdb, ledgerOf(nil))
			require.Equal(t, "stream", s.Name())
			messages := make([]notify.Message, 500)
			for i := range messages {
				messages[i] = notify.Message{OrderID: "o" + strconv.Itoa(i), Event: "order.paid", SaleID: "s1",
					UserID: "u1", CreatedAt: time.UnixMilli(42)}
			}
			for _, result := range s.Deliver(t.Context(), messages) {
				require.Equal(t, notify.Delivered(), result)
			}
			entries, err := rdb.XRange(t.Context(), "sluice:events", "-", "+").Result()
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(entries), 100)
			require.Less(t, len(entries), 300, "old entries are trimmed")
			require.Equal(t, map[string]any{"id": "o499:order.paid", "order": "o499", "sale": "s1", "user": "u1",
				"event": "order.paid", "at": "42"}, entries[len(entries)-1].Values)
		})
	}
}

// TestStreamSaysWhatIsKnownOfAnOrder checks the fields of an entry. Until its order can be looked up an event keeps its
// place and loses no attempt.
func TestStreamSaysWhatIsKnownOfAnOrder(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			at := time.UnixMilli(1_700_000_000_120)
			s := NewStream(DefaultStreamConfig().Behind("sluice"), rdb, ledgerOf(map[string]notify.Facts{"o1": {
				Status: "expired", Quantity: 2, PriceCents: 9900, Currency: "CNY", AdmittedAt: at.Add(-time.Second),
				ConfirmedAt: at, PayBy: at.Add(time.Minute), EndedAt: at.Add(time.Hour)}}))
			require.Equal(t, []notify.Result{notify.Delivered()}, s.Deliver(t.Context(), []notify.Message{
				{OrderID: "o1", Event: notify.EventConfirmed, SaleID: "s1", UserID: "u1", CreatedAt: at}}))
			entries, err := s.After(t.Context(), "0", 10)
			require.NoError(t, err)
			require.Equal(t, map[string]any{"id": "o1:order.confirmed", "order": "o1", "sale": "s1", "user": "u1",
				"event": "order.confirmed", "at": "1700000000120", "version": "1", "status": "confirmed",
				"quantity": "2", "price_cents": "9900", "currency": "CNY", "admitted_at": "2023-11-14T22:13:19.120Z",
				"confirmed_at": "2023-11-14T22:13:20.120Z", "pay_by": "2023-11-14T22:14:20.120Z"}, entries[0].Fields)

			away := NewStream(DefaultStreamConfig().Behind("sluice"), rdb,
				func(context.Context, []string) (map[string]notify.Facts, error) { return nil, errors.New("away") })
			require.Equal(t, []notify.Result{notify.Hold(lookUpPause, "the order could not be looked up")},
				away.Deliver(t.Context(), []notify.Message{{OrderID: "o2", Event: notify.EventPaid}}))
		})
	}
}

func TestStreamFailuresAreRetried(t *testing.T) {
	t.Parallel()
	server := testkit.Embedded(t)
	rdb := testkit.RedisClient(t, server.Addr())
	s := NewStream(DefaultStreamConfig().Behind("sluice"), rdb, ledgerOf(nil))
	require.NoError(t, server.Set("sluice:events", "not a stream"))
	results := s.Deliver(t.Context(), make([]notify.Message, 2))
	require.Len(t, results, 2)
	for _, r := range results {
		require.Equal(t, notify.Retry(r.Failure()), r)
		require.Contains(t, r.Failure(), "redis: ")
	}
	server.Close()
	for _, r := range s.Deliver(t.Context(), make([]notify.Message, 2)) {
		require.Equal(t, notify.Retry(r.Failure()), r)
	}
}

// TestStreamForgetsByAge checks that new entries push out old ones, by Redis' clock.
func TestStreamForgetsByAge(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			cfg := DefaultStreamConfig().Behind("sluice")
			cfg.Keep = time.Hour
			s := NewStream(cfg, rdb, ledgerOf(nil))
			now, err := rdb.Time(t.Context()).Result()
			require.NoError(t, err)
			for _, age := range []time.Duration{3 * time.Hour, 61 * time.Minute, 59 * time.Minute} {
				id := strconv.FormatInt(now.Add(-age).UnixMilli(), 10) + "-0"
				require.NoError(t, rdb.XAdd(t.Context(),
					&redis.XAddArgs{Stream: cfg.Key, ID: id, Values: []any{"id", age.String()}}).Err())
			}
			require.Equal(t, []notify.Result{notify.Delivered()},
				s.Deliver(t.Context(), []notify.Message{{OrderID: "o1", Event: notify.EventPaid}}))
			entries, err := s.After(t.Context(), "0", 10)
			require.NoError(t, err)
			require.Len(t, entries, 2)
			require.Equal(t, "59m0s", entries[0].Fields["id"])
			require.Equal(t, "o1:order.paid", entries[1].Fields["id"])
			last, err := s.Last(t.Context())
			require.NoError(t, err)
			require.Equal(t, entries[1].ID, last)
			entries, err = s.After(t.Context(), entries[0].ID, 10)
			require.NoError(t, err)
			require.Len(t, entries, 1)
		})
	}
}

// TestStreamServesConsumerGroups checks that two readers of a group share the events. The other reader gets those of a
// dead one.
func TestStreamServesConsumerGroups(t *testing.T) {
	t.Parallel()
	for _, kind := range testkit.RedisKinds(t) {
		t.Run(kind.Name, func(t *testing.T) {
			rdb := testkit.RedisClient(t, kind.Addr)
			s := NewStream(DefaultStreamConfig().Behind("sluice"), rdb, ledgerOf(nil))
			last, err := s.Last(t.Context())
			require.NoError(t, err)
			require.Equal(t, "0-0", last)
			require.NoError(t, rdb.XGroupCreateMkStream(t.Context(), "sluice:events", "logistics", "$").Err())
			s.Deliver(t.Context(), []notify.Message{{OrderID: "o1", Event: notify.EventConfirmed},
				{OrderID: "o2", Event: notify.EventPaid}, {OrderID: "o3", Event: notify.EventExpired}})
			read := func(consumer string, n int64) (ids []string, entries []string) {
				got, err := rdb.XReadGroup(t.Context(),
					&redis.XReadGroupArgs{Group: "logistics", Consumer: consumer,
						Streams: []string{"sluice:events", ">"}, Count: n, Block: -1}).Result()
				require.NoError(t, err)
				for _, m := range got[0].Messages {
					ids, entries = append(ids, m.Values["id"].(string)), append(entries, m.ID)
				}
				return ids, entries
			}
			first, entries := read("a", 2)
			require.Equal(t, []string{"o1:order.confirmed", "o2:order.paid"}, first)
			require.NoError(t, rdb.XAck(t.Context(), "sluice:events", "logistics", entries[0]).Err())
			rest, _ := read("b", 10)
			require.Equal(t, []string{"o3:order.expired"}, rest)
			taken, _, err := rdb.XAutoClaim(t.Context(),
				&redis.XAutoClaimArgs{Stream: "sluice:events", Group: "logistics", Consumer: "b", Start: "0"}).Result()
			require.NoError(t, err)
			require.Equal(t, "o2:order.paid", taken[0].Values["id"])
		})
	}
}

func TestStreamConfigNamesTheKeyAtFault(t *testing.T) {
	t.Parallel()
	require.NoError(t, DefaultStreamConfig().Validate())
	require.ErrorContains(t, StreamConfig{}.Validate(), "notify.stream.max_len")
}
