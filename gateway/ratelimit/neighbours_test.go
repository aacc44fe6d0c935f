package ratelimit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/fleet/budgets"
	"sluice/internal/testkit"
)

// TestABudgetThatCannotBeRenewedIsItsSalesMatter checks that a budget with a broken key counts locally while others are
// shared.
func TestABudgetThatCannotBeRenewedIsItsSalesMatter(t *testing.T) {
	t.Parallel()
	rdb := testkit.RedisClient(t, testkit.Embedded(t).Addr())
	require.NoError(t, rdb.Set(t.Context(), "sluice:{budget/broken}", "no hash", 0).Err())
	rps := 0.001 // practically no refill meanwhile
	cfg := Config{GlobalRPS: rps, GlobalBurst: 1000, Sales: map[string]SaleConfig{}}
	for _, sale := range []string{"broken", "phone"} {
		cfg.Sales[sale] = SaleConfig{TotalRPS: &rps, TotalBurst: 1000}
	}
	l := New(cfg, time.Now).Shared(budgets.New(rdb, "sluice"), "one")
	l.Renew(t.Context())
	plan := l.plan.Load()
	require.True(t, plan.general.budget.leased.Load())
	require.True(t, plan.sales["phone"].budget.leased.Load())
	require.False(t, plan.sales["broken"].budget.leased.Load())
	require.True(t, l.AllowTotal(t.Context(), "broken").OK, "by itself")
}
