package audit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/orders"
	"sluice/internal/testkit/tables"
	"sluice/inventory/audit"
	"sluice/store"
)

// verdicts audits everything and returns the sales' verdicts.
func verdicts(w *orders.World) (audit.Report, map[string]audit.Verdict) {
	w.T.Helper()
	result, err := w.Auditor.Run(w.Ctx, "")
	require.NoError(w.T, err)
	all := map[string]audit.Verdict{}
	for _, s := range result.Sales {
		all[s.Sale] = s.Verdict
		require.Equal(w.T, s.Verdict == audit.Clean, s.Clean)
		require.Equal(w.T, s.Verdict == audit.Clean, len(s.Problems) == 0, "%+v", s)
	}
	return result, all
}

// A sale whose line is missing or being rebuilt is unknown, whatever the others are; a difference wins.
func TestAuditVerdicts(t *testing.T) {
	orders.EachEmpty(t, func(w *orders.World) {
		w.Open(10, 1)
		w.Create(orders.NewSale("night", 5, 1))
		w.CatchUp()
		result, all := verdicts(w)
		require.Equal(w.T, audit.Clean, result.Verdict)
		require.True(w.T, *result.Clean)
		require.Len(w.T, all, 2)

		require.NoError(w.T, w.Redis.Del(w.Ctx, "sluice:{night/0}:meta").Err())
		result, all = verdicts(w)
		require.Equal(w.T, audit.Unknown, result.Verdict)
		require.Nil(w.T, result.Clean)
		require.Equal(w.T, map[string]audit.Verdict{orders.Sale: audit.Clean,
			"night": audit.Unknown}, all)
		require.Equal(w.T, []string{"night"}, result.Of(audit.Unknown))
		text, err := json.Marshal(result)
		require.NoError(w.T, err)
		require.True(w.T, strings.HasPrefix(string(text), `{"verdict":"unknown","clean":null,"sales":[`), string(text))

		w.Redis.Decr(w.Ctx, orders.Key("stock"))
		result, all = verdicts(w)
		require.Equal(w.T, audit.Different, result.Verdict)
		require.False(w.T, *result.Clean)
		require.Equal(w.T, map[string]audit.Verdict{orders.Sale: audit.Different,
			"night": audit.Unknown}, all)
		w.Redis.Incr(w.Ctx, orders.Key("stock"))

		w.Exec("UPDATE stock SET available = available - 1 WHERE sale_id = 'night'")
		result, all = verdicts(w)
		require.Equal(w.T, audit.Different, result.Verdict, "the ledger alone shows it")
		require.Equal(w.T, audit.Different, all["night"])
		require.EqualValues(w.T, 4, result.Sales[0].Available)
	})
}

// A store that is away makes the audit unknown, with the reason, and no error.
func TestAuditWithoutAStoreIsUnknown(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Embedded(t).Addr())
	w := orders.NewEmpty(t, tables.New(t, store.SQLite), proxy.Addr())
	w.Open(10, 1)
	proxy.Cut()
	result, all := verdicts(w)
	require.Equal(t, audit.Unknown, result.Verdict)
	require.Equal(t, map[string]audit.Verdict{orders.Sale: audit.Unknown}, all)
	require.EqualValues(t, 10, result.Sales[0].Total, "what the database knows is shown")
	w.Exec("UPDATE stock SET available = 3")
	result, _ = verdicts(w)
	require.Equal(t, audit.Different, result.Verdict)
	w.Exec("UPDATE stock SET available = 10")
	require.NoError(t, proxy.Heal())
	require.Eventually(t, func() bool { r, _ := verdicts(w); return r.Verdict == audit.Clean }, orders.Soon,
		20*time.Millisecond)

	ctx, cancel := context.WithCancel(w.Ctx)
	cancel()
	_, err := w.Auditor.Run(ctx, "")
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, w.DB.Close())
	for _, id := range []string{"", orders.Sale} {
		result, err := w.Auditor.Run(w.Ctx, id)
		require.NoError(t, err)
		require.Equal(t, audit.Unknown, result.Verdict)
		require.Nil(t, result.Clean)
		require.Contains(t, result.Problems[0], "list the sales to audit")
		require.Equal(t, id != "", len(result.Sales) == 1)
	}
}

// How long a sale has not been compared grows while a store is away, and ends with the next comparison.
func TestAuditAge(t *testing.T) {
	w := orders.EmptyOnSQLite(t)
	w.Open(10, 1)
	require.NoError(t, w.Cache.Refresh(w.Ctx))
	ages := audit.NewAges(w.Cache, w.Auditor)
	age := func() float64 { return testutil.ToFloat64(ages) }
	w.Clock.Advance(30 * time.Second)
	require.InDelta(t, 30, age(), 1, "since the start")
	_, err := w.Auditor.Balance(w.Ctx, orders.Sale)
	require.NoError(t, err)
	require.InDelta(t, 0, age(), 0.1)
	w.Clock.Advance(700 * time.Second)
	require.NoError(t, w.Redis.Del(w.Ctx, orders.Key("meta")).Err())
	_, err = w.Auditor.Balance(w.Ctx, orders.Sale)
	require.NoError(t, err)
	require.InDelta(t, 700, age(), 1, "a look that failed does not count")
}
