package app

import (
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/queue/worker"
	"sluice/store"
)

// TestWritesRefusedByASettingCountAgainstNobody makes the server refuse every write with an unusual code (1665). Thirty
// orders wait, the process says why, and all are confirmed when the setting is mended.
func TestWritesRefusedByASettingCountAgainstNobody(t *testing.T) {
	t.Parallel()
	server := testkit.PrivateMySQLWith(t, "--log-bin=bin", "--server-id=1")
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Database.Driver, cfg.Database.DSN = "mysql", server.Database().DSN
	cfg.Queue.MaxAttempts, cfg.Queue.Backoff = 2, 10*time.Millisecond
	app := startApp(t, cfg, AllRoles())
	openSale(t, inventory.NewSale{ID: "summer", Stock: 100}, app)
	// The sessions of this store are not killed.
	admin, err := store.Open(t.Context(), cfg.Database, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	format := func(format string) {
		require.NoError(t, admin.Write.Exec("SET GLOBAL binlog_format = "+format).Error)
	}
	format("STATEMENT")
	killSessions(t, admin.Write)
	for n := range 30 {
		require.Equal(t, http.StatusAccepted, placed(t, app, n))
	}
	why := func() string { return look(t, "http://"+app.OpsAddr()+"/readyz?verbose") }
	require.Eventually(t, func() bool {
		p, ok := app.consumer.Paused()
		return ok && p.Reason == worker.PausedByDatabase
	}, 20*time.Second, time.Millisecond)
	require.Contains(t, why(), "[-]draining: database: mysql 1665: ")
	require.Contains(t, why(), "[+]database ok")
	require.Contains(t, scrape(t, app), `sluice_draining_paused{reason="database"} 1`)
	// Long enough for every ticket to use up its attempts.
	require.Eventually(t, func() bool {
		p, ok := app.consumer.Paused()
		return ok && time.Since(p.Since) > 3*time.Second
	}, 20*time.Second, 50*time.Millisecond)
	require.Zero(t, app.redis.Client.HLen(t.Context(), "sluice:{summer/0}:attempts").Val(), "nothing is counted")
	view, err := app.lines.Of("summer").View(t.Context())
	require.NoError(t, err)
	require.Zero(t, view.Dead)
	require.Zero(t, ordersOf(t, app.db.Read), "nothing could be written")

	format("ROW") // the pool's sessions began with the old setting
	require.Eventually(t, func() bool { return ordersOf(t, app.db.Read) == 30 }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		v, err := app.lines.Of("summer").View(t.Context())
		return err == nil && !v.InFlight()
	}, 20*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 30, requireClean(t, app).Live)
	require.Contains(t, why(), "[+]draining ok")
	require.Contains(t, scrape(t, app), `sluice_draining_paused{reason="database"} 0`)
}

// placed sends the order of a shopper and returns the status of the answer.
func placed(t *testing.T, app *App, n int) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(shop.Order(t, app.Addr(), "summer", n))
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

// look returns the body of a GET without a token.
func look(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

func ordersOf(t *testing.T, db *gorm.DB) (confirmed int64) {
	t.Helper()
	require.NoError(t, db.Table("orders").Where("status = 'confirmed'").Count(&confirmed).Error)
	return confirmed
}

// killSessions ends all other sessions of a MySQL, so that new ones begin with the present settings.
func killSessions(t *testing.T, db *gorm.DB) {
	t.Helper()
	var ids []int64
	others := "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root'"
	require.NoError(t, db.Raw(others).Scan(&ids).Error)
	for _, id := range ids {
		_ = db.Exec("KILL CONNECTION ?", id).Error // it may have ended meanwhile
	}
}
