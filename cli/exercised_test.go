package cli

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"sluice/internal/testkit/shop"
	"sluice/notify"
	"sluice/queue"
)

// TestEveryCommandAndEveryAdminRouteIsExercised runs every command and every route of the admin API on a running
// system. A new one needs a line here.
func TestEveryCommandAndEveryAdminRouteIsExercised(t *testing.T) {
	e := newExercise(t)
	t.Chdir(t.TempDir()) // for the files of the demonstration
	e.local()
	e.sales()
	e.deadLetters()
	e.notifications()
	e.topics()
	e.settings()
	e.readRest()
	e.everyChangeIsInTheLog()

	var missing []string
	for _, path := range leafCommands(newRootCommand(&cli{out: io.Discard, err: io.Discard})) {
		if !e.commands[path] {
			missing = append(missing, path)
		}
	}
	require.Empty(t, missing, "commands that nothing has run")
	for route := range adminRoutes(t) {
		if !e.routes[route] {
			missing = append(missing, route)
		}
	}
	slices.Sort(missing)
	require.Empty(t, missing, "routes that nothing has asked")
	require.Empty(t, e.refusedByRedis(), "the rights of docs/operations.md are too few")
}

// local runs the commands that need no running system.
func (e *exercise) local() {
	e.t.Helper()
	dsn := "--set=database.dsn=" + filepath.Join(e.t.TempDir(), "other.db")
	e.do("migrate", "up", dsn)
	require.NotContains(e.t, e.do("migrate", "status", dsn), "pending")
	require.Contains(e.t, e.do("version"), "sluice")
	require.Contains(e.t, e.do("config", "check"), "valid")
	require.Contains(e.t, e.do("config", "print"), "queue.cap")
	require.NotEmpty(e.t, e.do("token", "--user", "ann", "--role", "viewer"))
	require.Contains(e.t, e.do("loadtest", "targets", "--sale", "phone", "--users", "2", "--format", "vegeta",
		"--url", "http://127.0.0.1:1"), "phone")
	require.Contains(e.t, e.do("demo", "--once", "--shoppers", "20", "--stock", "5", "--set",
		"redis.mode=embedded"), "clean")
}

func (e *exercise) sales() {
	e.t.Helper()
	e.do("sale", "create", "--id", "phone", "--title", "Phone X", "--sku", "PX", "--stock", "20", "--price-cents",
		"9900", "--ends", "+2h", "--reason", "launch")
	require.Equal(e.t, "open", e.object("sale", "open", "phone", "--reason", "as planned")["state"])
	require.Contains(e.t, e.do("sale", "list"), "phone")
	require.Contains(e.t, e.do("sale", "show", "phone"), "drained per second")
	require.Equal(e.t, "paused", e.object("sale", "pause", "phone", "--reason", "a look")["state"])
	e.do("sale", "open", "phone")
	require.EqualValues(e.t, 25, e.object("sale", "set", "phone", "--cap", "50", "--limit", "2", "--stock-add", "5",
		"--reason", "second pallet")["stock_total"])
	e.do("sale", "create", "--id", "old", "--title", "T", "--sku", "K", "--stock", "1", "--price-cents", "1")
	require.Equal(e.t, "closed", e.object("sale", "close", "old", "--reason", "by mistake")["state"])

	id := e.order("ann")
	e.runUntil(`(?m)^status +confirmed$`, "order", "show", id)
	require.Contains(e.t, e.do("order", "list", "--sale", "phone"), id)
	require.Contains(e.t, e.do("order", "export", "--sale", "phone", "--format", "csv"), id)
	require.Contains(e.t, e.do("order", "timeline", id), "claimed")
	require.Contains(e.t, e.do("order", "timeline", "--user", "ann"), id)
	require.Contains(e.t, e.do("payment", "list"), "OUTCOME")
	require.Contains(e.t, e.do("rebuild", "--sale", "phone", "--reason", "to be sure"), "clean")
	require.Contains(e.t, e.do("audit"), "clean")
}

// order places an order and returns its id.
func (e *exercise) order(user string) string {
	e.t.Helper()
	req := shop.Request(e.t, http.MethodPost, "http://"+e.http+"/v1/sales/phone/orders", user)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(e.t, err)
	defer resp.Body.Close()
	var order struct {
		ID string `json:"order_id"`
	}
	require.NoError(e.t, json.NewDecoder(resp.Body).Decode(&order))
	require.Equal(e.t, http.StatusAccepted, resp.StatusCode)
	return order.ID
}

// deadLetters stops draining, makes two tickets dead letters by hand, and reads the line meanwhile.
func (e *exercise) deadLetters() {
	e.t.Helper()
	require.Contains(e.t, e.do("switch", "drain", "off", "--sale", "phone", "--reason", "a look"), "phone")
	require.Contains(e.t, e.do("switch", "show"), "phone")
	first, second := e.order("bob"), e.order("cem")
	line := queue.NewLines(e.rdb, queue.DefaultPrefix).ForInstance("by-hand", 0).Of("phone")
	batch, err := line.Claim(e.t.Context(), "batch-1", 10, time.Minute)
	require.NoError(e.t, err)
	require.Len(e.t, batch.Tickets, 2)
	require.Regexp(e.t, `batch-1 +by-hand +2 `, e.do("queue", "leases", "--sale", "phone"))
	require.Regexp(e.t, `(?m)^phone +0/50 .* 1 +0 +0 +0 +22$`, e.do("queue", "list"))
	require.Regexp(e.t, `(?m)^leased batches +1$`, e.do("queue", "show", "--sale", "phone"))
	require.NoError(e.t, line.Settle(e.t.Context(), batch, []queue.Outcome{{ID: first, Op: queue.OpDead,
		Reason: "by hand"}, {ID: second, Op: queue.OpDead, Reason: "by hand"}}))

	require.Contains(e.t, e.do("dead", "list", "--sale", "phone"), first)
	require.Contains(e.t, e.do("dead", "show", "--sale", "phone", first), "by hand")
	e.do("dead", "requeue", "--sale", "phone", "--reason", "it was well", first)
	require.Contains(e.t, e.do("dead", "requeue", "--sale", "phone", "--reason", "nobody's", "--user", "nobody"),
		"0 requeued, 0 refused, 0 left")
	require.Contains(e.t, e.do("dead", "drop", "--sale", "phone", "--reason", "nobody's", "--user", "nobody"),
		"0 dropped, 0 refused, 0 left")
	e.do("dead", "drop", "--sale", "phone", "--reason", "ordered again", second)
	e.do("switch", "drain", "on", "--sale", "phone", "--reason", "looked")
	e.runUntil(`(?m)^status +confirmed$`, "order", "show", first)
	require.Contains(e.t, e.do("order", "timeline", first), "dead.requeue")
}

func (e *exercise) notifications() {
	e.t.Helper()
	rows := []notify.Row{{OrderID: "o1", Event: notify.EventConfirmed, Channel: "stream", SaleID: "phone",
		UserID: "ann", State: notify.StateDead, CreatedAt: 1, NextAt: 1}}
	require.NoError(e.t, e.db.Tx(e.t.Context(), func(tx *gorm.DB) error { return notify.Insert(tx, rows) }))
	require.Contains(e.t, e.do("notify", "list"), "o1")
	require.Contains(e.t, e.do("events", "tail", "--since", "start", "--count", "1"), "order.confirmed")
	require.Contains(e.t, e.do("notify", "retry", "--channel", "stream", "--all", "--reason", "well again"), "1")
}

func (e *exercise) topics() {
	e.t.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
	}))
	e.t.Cleanup(receiver.Close)
	e.do("topic", "create", "--url", receiver.URL, "--reason", "coupons end", "coupons")
	require.Contains(e.t, e.do("topic", "list"), "coupons")
	require.Contains(e.t, e.do("topic", "set", "--timeout", "3s", "--reason", "slow", "coupons"), "3s")
	require.Contains(e.t, e.do("topic", "off", "--reason", "it moves", "coupons"), "off")
	require.Contains(e.t, e.do("topic", "on", "--reason", "it moved", "coupons"), "on")
	require.Contains(e.t, e.do("topic", "show", "coupons"), receiver.URL)
	require.Contains(e.t, e.do("topic", "set", "--store", "default", "--reason", "as it is", "coupons"), "default")

	require.Contains(e.t, e.do("topic", "message", "add", "coupons", "late-1", "--delay", "1h", "--body", `{"n":1}`,
		"--reason", "forgotten"), "late-1 due at")
	e.do("topic", "message", "cancel", "--reason", "used", "coupons", "late-1")
	require.Contains(e.t, e.do("topic", "message", "show", "coupons", "late-1"), "cancelled")
	e.do("topic", "message", "add", "coupons", "bad-1")
	e.runUntil("bad-1", "topic", "dead", "list", "coupons")
	e.do("topic", "dead", "retry", "--reason", "once more", "coupons", "bad-1")
	e.runUntil("bad-1", "topic", "dead", "list", "coupons")
	e.do("topic", "dead", "drop", "--reason", "by hand", "coupons", "bad-1")
	require.Contains(e.t, e.do("topic", "message", "list", "--state", "failed", "coupons"), "bad-1")
	e.subscriptions(receiver.URL)
	e.do("topic", "delete", "--reason", "over", "coupons")
}

// subscriptions gives the topic another receiver, which refuses everything for ever, and a reader who never comes.
func (e *exercise) subscriptions(refusing string) {
	e.t.Helper()
	e.do("subscription", "create", "--topic", "coupons", "--url", refusing, "--event", "coupon.sent", "--reason",
		"they want them, too", "stats")
	require.Contains(e.t, e.do("subscription", "create", "--topic", "coupons", "--sale", "flash-*", "--lease", "5m",
		"--reason", "reads at night", "nightly"), "5m0s")
	require.Contains(e.t, e.do("subscription", "list", "--topic", "coupons"), "coupons.default")
	require.Contains(e.t, e.do("subscription", "set", "--method", "get", "--reason", "simple", "stats"), "GET")
	require.Contains(e.t, e.do("subscription", "off", "--reason", "it moves", "stats"), "off")
	require.Contains(e.t, e.do("subscription", "on", "--reason", "it moved", "stats"), "on")
	e.do("topic", "message", "add", "coupons", "sent-1", "--at", "2020-01-01T00:00:00Z", "--event", "coupon.sent",
		"--sale", "flash-1", "--reason", "by hand")
	e.runUntil("sent-1", "subscription", "dead", "list", "stats")
	require.Contains(e.t, e.do("topic", "message", "show", "coupons", "sent-1"), "in nightly")
	require.Contains(e.t, e.do("subscription", "message", "list", "nightly"), "sent-1")
	require.Contains(e.t, e.do("subscription", "pump", "--out", "-", "--once", "--work", e.work, "nightly"), "sent-1")
	e.do("subscription", "dead", "retry", "--reason", "once more", "stats", "sent-1")
	e.runUntil("sent-1", "subscription", "dead", "list", "stats")
	e.do("subscription", "dead", "drop", "--reason", "by hand", "stats", "sent-1")
	require.Contains(e.t, e.do("subscription", "show", "nightly"), "flash-*")
	e.do("topic", "dead", "drop", "--reason", "by hand", "coupons", "sent-1")
	e.do("subscription", "delete", "--reason", "over", "stats")
	e.do("subscription", "delete", "--give-up", "--reason", "over", "nightly")
}

func (e *exercise) settings() {
	e.t.Helper()
	require.Contains(e.t, e.do("limits", "set", "global_rps=5000", "--reason", "rush"), "5000")
	require.Contains(e.t, e.do("limits", "show"), "5000")
	require.NotContains(e.t, e.do("limits", "revert", "--reason", "over"), "5000")
	require.Contains(e.t, e.do("config", "set", "pool.size=5", "--reason", "less"), "pool.size")
	require.Contains(e.t, e.do("config", "show"), "pool.size")
	require.Contains(e.t, e.do("config", "versions"), "less")
	require.Contains(e.t, e.do("config", "revert", "--reason", "more"), "pool.size")
	require.Contains(e.t, e.do("config", "reload", "--reason", "to be sure"), "version")
	require.Equal(e.t, "debug\n", e.do("log-level", "debug", "--reason", "a look"))
	require.Equal(e.t, "debug\n", e.do("log-level"))
	require.Regexp(e.t, `admission +off`, e.do("switch", "admission", "off", "--reason", "payment is down"))
	require.Regexp(e.t, `admission +on`, e.do("switch", "admission", "on", "--reason", "payment is up"))
}

// readRest calls the read-only commands, and the routes that no command uses.
func (e *exercise) readRest() {
	e.t.Helper()
	require.Contains(e.t, e.do("instances"), "gateway,worker,notifier")
	require.Contains(e.t, e.do("workers"), "TAKEN BY")
	token := strings.TrimSpace(e.do("token", "--user", "ann", "--role", "viewer"))
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.ops+"/admin/v1/events?from=0", nil)
	require.NoError(e.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(e.t, err)
	require.NoError(e.t, resp.Body.Close()) // the stream never ends
	require.Equal(e.t, http.StatusOK, resp.StatusCode)
}

// everyChangeIsInTheLog checks the admin log for every change above: who, what, why, before and after.
func (e *exercise) everyChangeIsInTheLog() {
	e.t.Helper()
	type entry struct {
		Actor, Action, Reason string
		SaleID                string `json:"sale_id"`
		Before, After         json.RawMessage
	}
	found := map[string][]entry{}
	cursor := ""
	for pages := 0; cursor != "" || pages == 0; pages++ {
		var page struct {
			Entries []entry
			Next    string `json:"next_cursor"`
		}
		require.NoError(e.t, json.Unmarshal([]byte(e.do("admin-log", "--json", "--limit", "7", "--cursor", cursor)),
			&page))
		for _, one := range page.Entries {
			found[one.Action] = append(found[one.Action], one)
		}
		cursor = page.Next
	}
	require.Equal(e.t, []string{"config.admin", "config.reload", "config.revert", "dead.drop", "dead.requeue",
		"line.rebuild", "notifications.retry",
		"sale.closed", "sale.create", "sale.open", "sale.paused", "sale.update", "stock.adjust",
		"subscription.create", "subscription.delete", "subscription.message.drop", "subscription.message.retry",
		"subscription.update", "topic.create",
		"topic.delete",
		"topic.message.add", "topic.message.cancel", "topic.message.drop", "topic.message.retry", "topic.update"},
		slices.Sorted(maps.Keys(found)))
	for action, entries := range found {
		for _, one := range entries {
			require.Equal(e.t, "cli", one.Actor, action)
			require.Equal(e.t, strings.HasSuffix(action, ".create") ||
				action == "topic.message.add", string(one.Before) == "null", "%s: only what is new has no before: %s",
				action, one.Before)
			require.Equal(e.t, strings.HasSuffix(action, ".delete"), string(one.After) == "null",
				"%s: only what is gone has no after: %s", action, one.After)
			require.Equal(e.t, action == "config.reload", string(one.Before) == string(one.After),
				"%s: only a file that is as it was changes nothing", action)
			require.NotContains(e.t, string(one.After), "unknown", action)
		}
		require.NotEmpty(e.t, entries[len(entries)-1].Reason, "%s: its first change had a reason", action)
	}
	require.Regexp(e.t, `sale\.update +phone +second pallet +cap 0 -> 50, per_user_limit 1 -> 2`,
		e.do("admin-log", "--sale", "phone", "--action", "sale", "--since", "1h"))
	require.NotContains(e.t, e.do("admin-log", "--sale", "old"), "phone")
	require.NotContains(e.t, e.do("admin-log", "--actor", "nobody"), "sale.")
}
