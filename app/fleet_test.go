package app

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/internal/shoppers"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store/redis"
)

// refusedApp returns the error of a process that does not start.
func refusedApp(t *testing.T, cfg configs.Config) error {
	t.Helper()
	_, err := New(t.Context(), cfg, Options{Roles: AllRoles(), Log: slog.New(slog.DiscardHandler),
		Registry: prometheus.NewRegistry(), Now: time.Now, Version: "test"})
	require.Error(t, err)
	return err
}

// TestInstallationsOnOneRedisSellApart covers case S6: a second installation on a Redis is refused. With a prefix of
// its own it sells separately, and all its keys have the prefix.
func TestInstallationsOnOneRedisSellApart(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	first := shop.Config(t, "sqlite", redis.Addr())
	one := startApp(t, first, AllRoles())
	second := shop.Config(t, "sqlite", redis.Addr())
	require.ErrorContains(t, refusedApp(t, second),
		"redis ("+redis.Addr()+") and the database belong to different installations")

	before := map[string]bool{}
	for _, key := range redis.Client().Keys(t.Context(), "*").Val() {
		before[key] = true
	}
	second.Redis.Prefix = "other"
	two := startApp(t, second, AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 30}, two)
	c := shoppers.New(two.Addr(), "phone", 40, two.cfg.Auth, time.Now)
	require.NoError(t, c.Run(t.Context(), io.Discard))
	require.Equal(t, map[string]int{"confirmed": 30, "sold_out": 10}, c.Outcomes())
	require.Eventually(t, func() bool { return redis.Client().XLen(t.Context(), "other:events").Val() == 30 },
		10*time.Second, 20*time.Millisecond)
	for _, key := range redis.Client().Keys(t.Context(), "*").Val() {
		require.True(t, before[key] || strings.HasPrefix(key, "other:"), key)
	}
	heard := redis.Client().PubSubChannels(t.Context(), "other:*").Val()
	require.ElementsMatch(t, []string{"other:wake", "other:status", "other:stock", "other:due"}, heard)

	openSale(t, inventory.NewSale{ID: "phone", Stock: 20}, one)
	c = shoppers.New(one.Addr(), "phone", 40, one.cfg.Auth, time.Now)
	require.NoError(t, c.Run(t.Context(), io.Discard))
	require.Equal(t, map[string]int{"confirmed": 20, "sold_out": 20}, c.Outcomes())
	for app, sold := range map[*App]int64{one: 20, two: 30} {
		require.EqualValues(t, sold, requireClean(t, app).Live)
	}
}

// TestAManagedRedisOfAnotherDatabaseIsRefused checks that the error names the folder, and that --adopt-redis takes it
// over.
func TestAManagedRedisOfAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", "")
	cfg.Redis.Mode = redis.ModeManaged
	app := startApp(t, cfg, AllRoles())
	require.NoError(t, stopApp(app))
	cfg.Database.DSN = filepath.Join(t.TempDir(), "another.db")
	err := refusedApp(t, cfg)
	require.ErrorContains(t, err, "redis ("+cfg.Redis.Dir+") and the database belong to different installations")
	require.ErrorContains(t, err, "the database is no installation yet")
	app, err = New(t.Context(), cfg, Options{Roles: AllRoles(), Log: slog.New(slog.DiscardHandler),
		Registry: prometheus.NewRegistry(), Now: time.Now, Version: "test", AdoptRedis: true})
	require.NoError(t, err)
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, stopApp(app))
}

// TestAProcessThatIsLeftBehindNeitherAdmitsNorDrains checks a process that is older than the database requires. It
// answers 503, is not ready, drains nothing, and goes on when the database allows it again.
func TestAProcessThatIsLeftBehindNeitherAdmitsNorDrains(t *testing.T) {
	t.Parallel()
	app := startApp(t, shop.Config(t, "sqlite", testkit.Redis(t).Addr()), AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 10}, app)
	ask := func(method, path string) (int, string) {
		resp, err := http.DefaultClient.Do(shop.Request(t, method, path, "ann"))
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	order := "http://" + app.Addr() + "/v1/sales/phone/orders"
	ready := "http://" + app.OpsAddr() + "/readyz?verbose"
	require.Eventually(t, func() bool { code, _ := ask(http.MethodGet, ready); return code == http.StatusOK },
		10*time.Second, 20*time.Millisecond)
	require.Contains(t, scrape(t, app), "sluice_schema_version "+versionOf(app))

	require.NoError(t, app.db.Write.Exec("UPDATE installation SET schema_least = 99").Error)
	require.Eventually(t, func() bool {
		code, _ := ask(http.MethodGet, ready)
		return code == http.StatusServiceUnavailable
	}, 10*time.Second, 20*time.Millisecond)
	_, text := ask(http.MethodGet, ready)
	require.Contains(t, text, "[-]schema and installation: this build is too old for the database")
	code, text := ask(http.MethodPost, order)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, text, `"code":"unavailable"`)
	entry, ok := app.saleCache.Get("phone")
	require.True(t, ok)
	admitted, err := app.lines.Of("phone").Admit(t.Context(), entry.Sale.Epoch, 1,
		[]queue.Request{{ID: "by-another", User: "bob", Units: 1}})
	require.NoError(t, err)
	require.NoError(t, admitted[0].Err)
	require.Never(t, func() bool {
		view, err := app.lines.Of("phone").View(t.Context())
		return err != nil || view.Waiting != 1
	}, time.Second, 20*time.Millisecond, "it is left to others")

	require.NoError(t, app.db.Write.Exec("UPDATE installation SET schema_least = 0").Error)
	require.Eventually(t, func() bool {
		view, err := app.lines.Of("phone").View(t.Context())
		code, _ := ask(http.MethodGet, ready)
		return err == nil && view.Waiting == 0 && code == http.StatusOK
	}, 10*time.Second, 20*time.Millisecond)
	code, _ = ask(http.MethodPost, order)
	require.Equal(t, http.StatusAccepted, code)
}

func versionOf(app *App) string { return strconv.FormatInt(app.guard.Self.Schema.Newest, 10) }

// TestALineOfAnotherInstallationIsLeftAlone swaps in the Redis data of another installation with the same sale. The
// process changes nothing in it and makes no orders of its tickets.
func TestALineOfAnotherInstallationIsLeftAlone(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	theirs := shop.Config(t, "sqlite", redis.Addr())
	theirs.Redis.Prefix = "theirs"
	two := startApp(t, theirs, AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 30}, two)
	c := shoppers.New(two.Addr(), "phone", 5, two.cfg.Auth, time.Now)
	require.NoError(t, c.Run(t.Context(), io.Discard))
	require.NoError(t, stopApp(two))

	one := startApp(t, shop.Config(t, "sqlite", redis.Addr()), AllRoles())
	openSale(t, inventory.NewSale{ID: "phone", Stock: 20}, one)
	before := requireClean(t, one)
	rdb := redis.Client()
	var swap []string
	for _, key := range rdb.Keys(t.Context(), "theirs:*").Val() {
		swap = append(swap, key, "sluice"+strings.TrimPrefix(key, "theirs"))
	}
	require.NoError(t, rdb.Eval(t.Context(),
		"for i = 1, #KEYS, 2 do redis.call('COPY', KEYS[i], KEYS[i + 1], 'REPLACE') end "+
			"return redis.status_reply('OK')", swap).Err())
	meta := rdb.HGetAll(t.Context(), "sluice:{phone/0}:meta").Val()
	require.Eventually(t, func() bool { return one.guard.Err() != nil }, 10*time.Second, 20*time.Millisecond)
	require.Error(t, one.reconciler.Rebuild(t.Context(), "phone"))
	pause := shop.Request(t, http.MethodPost,
		"http://"+one.OpsAddr()+"/admin/v1/sales/phone/pause", "root")
	token, err := auth.Mint(one.cfg.Auth, "root", true, time.Hour, time.Now())
	require.NoError(t, err)
	pause.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(pause)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Never(t, func() bool {
		now := rdb.HGetAll(t.Context(), "sluice:{phone/0}:meta").Val()
		return now["epoch"] != meta["epoch"] || now["gate"] != ""
	}, 7*time.Second, 50*time.Millisecond, "an audit and its repetition are over by then")
	var live int64
	require.NoError(t, one.db.Read.Table("orders").Count(&live).Error)
	require.Equal(t, before.Live, live, "their orders are not ours")
}
