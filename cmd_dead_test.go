package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/inventory"
)

// The dead-letter commands and rebuild, against a real process: its line gets
// an id that is no ticket, which can be seen and dropped but not requeued.
func TestCommandsLookAfterDeadLetters(t *testing.T) {
	redis := testkit.Redis(t)
	app := startApp(t, testConfig(t, "sqlite", redis.Addr()), AllRoles())
	openSale(t, inventory.NewSale{ID: "summer", Stock: 3}, app)
	do := func(args ...string) outcome {
		t.Helper()
		return sluice(t, []string{"SLUICE_AUTH__SECRET=" + testSecret}, append(args, "--ops", "http://"+app.OpsAddr())...)
	}
	require.NoError(t, redis.Client().LPush(t.Context(), "sluice:{summer/0}:wait", "bogus-1").Err())
	require.Eventually(t, func() bool {
		v, err := app.lines.Of("summer").View(t.Context())
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

	rebuilt := do("rebuild", "--sale", "summer", "--reason", "to be sure")
	require.Equal(t, exitSuccess, rebuilt.code, rebuilt.err)
	require.Contains(t, rebuilt.out, "clean")
	var actions []string
	require.NoError(t, app.db.Read.Table("admin_log").Where("action IN ?", []string{"dead.drop", "line.rebuild"}).Order("id").Pluck("reason", &actions).Error)
	require.Equal(t, []string{"not a ticket", "to be sure"}, actions)
}
