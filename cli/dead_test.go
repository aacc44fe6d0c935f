package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/app"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
)

// TestCommandsLookAfterDeadLetters runs the dead-letter commands and rebuild against a real process. Its line gets an
// id without a ticket, which can be shown and dropped but not requeued.
func TestCommandsLookAfterDeadLetters(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	app := startApp(t, shop.Config(t, "sqlite", redis.Addr()), app.AllRoles())
	openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
	do := func(args ...string) outcome {
		t.Helper()
		return sluice(t, []string{"SLUICE_AUTH__SECRET=" + shop.Secret}, append(args, "--ops",
			"http://"+app.OpsAddr())...)
	}
	require.NoError(t, redis.Client().LPush(t.Context(), "sluice:{summer/0}:wait", "bogus-1").Err())
	require.Eventually(t, func() bool {
		v, err := app.Lines().Of("summer").View(t.Context())
		return err == nil && v.Dead == 1
	}, 10*time.Second, 10*time.Millisecond)

	got := do("dead", "list", "--sale", "summer")
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Contains(t, got.out, "bogus-1")
	require.Contains(t, got.out, "unreadable: it can only be dropped")
	require.Contains(t, do("dead", "show", "--sale", "summer", "bogus-1").out, "bogus-1")
	refused := do("dead", "requeue", "--sale", "summer", "bogus-1")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "can only be dropped")
	require.Equal(t, outcome{}, do("dead", "drop", "--sale", "summer", "--reason", "not a ticket", "bogus-1"))
	require.Contains(t, do("dead", "show", "--sale", "summer", "bogus-1").err, "not_found")
	require.Equal(t, exitUsage, do("dead", "drop", "bogus-1").code, "--sale is missing")

	require.NoError(t, redis.Client().LPush(t.Context(), "sluice:{summer/0}:dead", "bogus-2", "bogus-3",
		"bogus-4").Err())
	for _, wrong := range [][]string{{}, {"--all", "bogus-2"}, {"--all", "--user", "ann"}, {"--user", "ann", "bogus-2"},
		{"--since", "yesterday"}, {"--all", "--limit", "0"}, {"--all", "--limit", "10001"}, {"--all", "--skip", "-1"}} {
		require.Equal(t, exitUsage, do(append([]string{"dead", "requeue", "--sale", "summer"}, wrong...)...).
			code, "%v", wrong)
	}
	require.Contains(t, do("dead", "list", "--sale", "summer", "--reason", "unreadable", "--limit", "2").
		out, "more with --skip 2")
	require.NotContains(t, do("dead", "list", "--sale", "summer", "--user", "ann").out, "bogus")
	refused = do("dead", "requeue", "--sale", "summer", "--all", "--limit", "2")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.out, "0 requeued, 2 refused, 1 left")
	require.Contains(t, refused.out, "go on with --skip 2")
	require.Contains(t, refused.out, "conflict")
	require.Contains(t, refused.err, "2 dead letters were refused")
	many := do("dead", "drop", "--sale", "summer", "--reason", "no tickets", "--failed-reason", "unreadable", "--limit",
		"2", "--json")
	require.Equal(t, exitSuccess, many.code, many.err)
	require.JSONEq(t, `{"done":2,"refused":0,"refusals":[],"left":1,"next":0}`, many.out)
	require.Contains(t, do("dead", "drop", "--sale", "summer", "--reason", "no tickets", "--all").
		out, "1 dropped, 0 refused, 0 left")
	require.Contains(t, do("dead", "drop", "--sale", "nosuch", "--all").err, "no such sale")

	rebuilt := do("rebuild", "--sale", "summer", "--reason", "to be sure")
	require.Equal(t, exitSuccess, rebuilt.code, rebuilt.err)
	require.Contains(t, rebuilt.out, "clean")
	log := do("admin-log", "--json")
	require.Equal(t, 1, strings.Count(log.out, "not a ticket"), log.out)
	require.Equal(t, 3, strings.Count(log.out, "no tickets"), log.out)
	require.Equal(t, 1, strings.Count(log.out, "to be sure"), log.out)
}
