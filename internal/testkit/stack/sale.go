package stack

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/inventory"
	"sluice/inventory/audit"
	"sluice/queue"
)

// LimitOf lets a user of a sale hold n orders.
func LimitOf(n int) func(*inventory.NewSale) {
	return func(s *inventory.NewSale) { s.PerUserLimit = n }
}

// CapOf bounds a sale's line.
func CapOf(n int) func(*inventory.NewSale) { return func(s *inventory.NewSale) { s.Cap = n } }

// Window opens a sale from one moment to another, both counted from now.
func Window(starts, ends time.Duration) func(*inventory.NewSale) {
	return func(s *inventory.NewSale) { s.StartsAt, s.EndsAt = time.Now().Add(starts), time.Now().Add(ends) }
}

// Sell makes a sale that both listeners know, open for an hour unless edited.
func (s *Stack) Sell(id string, stock int64, edits ...func(*inventory.NewSale)) {
	s.T.Helper()
	n := inventory.NewSale{
		ID: id, Title: "Phone X", SKU: "PHONE-X", Stock: stock, PriceCents: 9900, Currency: "CNY", PerUserLimit: 1,
		StartsAt: time.Now().Add(-time.Minute), EndsAt: time.Now().Add(time.Hour), Open: true,
	}
	for _, edit := range edits {
		edit(&n)
	}
	_, err := s.SaleStore.Create(s.T.Context(), n, "test")
	require.NoError(s.T, err)
	s.Sync()
}

// Sync brings what changed in the database to the line and the sale cache.
func (s *Stack) Sync() {
	s.T.Helper()
	require.NoError(s.T, s.Reconciler.SyncLine(s.T.Context(), ""))
	require.NoError(s.T, s.SaleCache.Refresh(s.T.Context()))
}

// SetState opens, pauses or closes a sale.
func (s *Stack) SetState(sale, state string) {
	s.T.Helper()
	_, _, err := s.SaleStore.SetState(s.T.Context(), sale, state, "test", "")
	require.NoError(s.T, err)
	s.Sync()
}

// Clean requires that line and ledger agree.
func (s *Stack) Clean() {
	s.T.Helper()
	result, err := s.Auditor.Run(s.T.Context(), "")
	require.NoError(s.T, err)
	require.Equal(s.T, audit.Clean, result.Verdict, "%+v", result)
}

// View reads the numbers of a sale's line.
func (s *Stack) View(sale string) queue.View {
	s.T.Helper()
	v, err := s.Lines.Of(sale).View(s.T.Context())
	require.NoError(s.T, err)
	return v
}

// Record reads what Redis itself holds of an order; "" when it holds none.
func (s *Stack) Record(sale, id string) string {
	s.T.Helper()
	text, err := s.Redis.HGet(s.T.Context(), "sluice:{"+sale+"/0}:orders", id).Result()
	if !errors.Is(err, redis.Nil) {
		require.NoError(s.T, err)
	}
	return text
}
