package inventory_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/inventory"
	"sluice/store"
)

// verdicts audits everything and returns the sales' verdicts.
func (w *world) verdicts() (inventory.Audit, map[string]inventory.Verdict) {
	w.t.Helper()
	result, err := w.auditor.Run(w.ctx, "")
	require.NoError(w.t, err)
	all := map[string]inventory.Verdict{}
	for _, s := range result.Sales {
		all[s.Sale] = s.Verdict
		require.Equal(w.t, s.Verdict == inventory.VerdictClean, s.Clean)
		require.Equal(w.t, s.Verdict == inventory.VerdictClean, len(s.Problems) == 0, "%+v", s)
	}
	return result, all
}

// A sale whose line is missing or being rebuilt is unknown, whatever the others are; a difference wins.
func TestAuditVerdicts(t *testing.T) {
	eachDatabase(t, func(w *world) {
		w.open(10, 1)
		w.create(newSale("night", 5, 1))
		w.keep()
		result, all := w.verdicts()
		require.Equal(w.t, inventory.VerdictClean, result.Verdict)
		require.True(w.t, *result.Clean)
		require.Len(w.t, all, 2)

		require.NoError(w.t, w.rdb.Del(w.ctx, "sluice:{night/0}:meta").Err())
		result, all = w.verdicts()
		require.Equal(w.t, inventory.VerdictUnknown, result.Verdict)
		require.Nil(w.t, result.Clean)
		require.Equal(w.t, map[string]inventory.Verdict{theSale: inventory.VerdictClean,
			"night": inventory.VerdictUnknown}, all)
		require.Equal(w.t, []string{"night"}, result.Of(inventory.VerdictUnknown))
		text, err := json.Marshal(result)
		require.NoError(w.t, err)
		require.True(w.t, strings.HasPrefix(string(text), `{"verdict":"unknown","clean":null,"sales":[`), string(text))

		w.rdb.Decr(w.ctx, key("stock"))
		result, all = w.verdicts()
		require.Equal(w.t, inventory.VerdictDifferent, result.Verdict)
		require.False(w.t, *result.Clean)
		require.Equal(w.t, map[string]inventory.Verdict{theSale: inventory.VerdictDifferent,
			"night": inventory.VerdictUnknown}, all)
		w.rdb.Incr(w.ctx, key("stock"))

		w.exec("UPDATE stock SET available = available - 1 WHERE sale_id = 'night'")
		result, all = w.verdicts()
		require.Equal(w.t, inventory.VerdictDifferent, result.Verdict, "the ledger alone shows it")
		require.Equal(w.t, inventory.VerdictDifferent, all["night"])
		require.EqualValues(w.t, 4, result.Sales[0].Available)
	})
}

// A store that is away makes the audit unknown, with the reason, and no error.
func TestAuditWithoutAStoreIsUnknown(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := newWorld(t, tables.New(t, store.SQLite), proxy.Addr())
	w.open(10, 1)
	proxy.Cut()
	result, all := w.verdicts()
	require.Equal(t, inventory.VerdictUnknown, result.Verdict)
	require.Equal(t, map[string]inventory.Verdict{theSale: inventory.VerdictUnknown}, all)
	require.EqualValues(t, 10, result.Sales[0].Total, "what the database knows is shown")
	w.exec("UPDATE stock SET available = 3")
	result, _ = w.verdicts()
	require.Equal(t, inventory.VerdictDifferent, result.Verdict)
	w.exec("UPDATE stock SET available = 10")
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool { r, _ := w.verdicts(); return r.Verdict == inventory.VerdictClean }, soon,
		20*time.Millisecond)

	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_, err := w.auditor.Run(ctx, "")
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, w.db.Close())
	for _, id := range []string{"", theSale} {
		result, err := w.auditor.Run(w.ctx, id)
		require.NoError(t, err)
		require.Equal(t, inventory.VerdictUnknown, result.Verdict)
		require.Nil(t, result.Clean)
		require.Contains(t, result.Problems[0], "list the sales to audit")
		require.Equal(t, id != "", len(result.Sales) == 1)
	}
}

// How long a sale has not been compared grows while a store is away, and ends with the next comparison.
func TestAuditAge(t *testing.T) {
	w := onSQLite(t)
	w.open(10, 1)
	require.NoError(t, w.cache.Refresh(w.ctx))
	ages := inventory.NewAuditAges(w.cache, w.auditor)
	age := func() float64 { return testutil.ToFloat64(ages) }
	w.clock.Advance(30 * time.Second)
	require.InDelta(t, 30, age(), 1, "since the start")
	_, err := w.auditor.Balance(w.ctx, theSale)
	require.NoError(t, err)
	require.InDelta(t, 0, age(), 0.1)
	w.clock.Advance(700 * time.Second)
	require.NoError(t, w.rdb.Del(w.ctx, key("meta")).Err())
	_, err = w.auditor.Balance(w.ctx, theSale)
	require.NoError(t, err)
	require.InDelta(t, 700, age(), 1, "a look that failed does not count")
}
