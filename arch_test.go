package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "sluice"

// mayImport is the import table: for each room of the house, the other rooms
// that its production code may use. A room is a folder with all below it. A
// package that belongs to none fails the test: it needs a line here first.
var mayImport = map[string][]string{
	"queue":       {redisRoom, pattern, luascript, apart, killpoint},
	"notify":      {"store"},
	relayRoom:     {"notify", "store", apart, killpoint},
	alertRoom:     {"notify", webhook, apart},
	channelRoom:   {"notify", invalid, alertRoom, formRoom, webhook, apart, money, phone, cloudevent},
	formRoom:      {"notify"},
	webhook:       {},
	"store":       {},
	schemaRoom:    {"store"},
	"adminlog":    {"store", invalid},
	"settings":    {"adminlog", "store", invalid},
	"inventory":   {"adminlog", "queue", "store", apart, meter, invalid, redisRoom},
	reconcileRoom: {"inventory", auditRoom, "queue", "store", apart, killpoint, redisRoom},
	auditRoom:     {"inventory", "queue", "store", apart, redisRoom},

	"delay":     {"adminlog", "store", invalid, pattern, redisRoom}, // redisRoom: the form of a store's configuration
	messageRoom: {"delay", apart, invalid, luascript, cloudevent, redisRoom},
	pushRoom:    {"delay", pattern, messageRoom, "notify", apart, killpoint, webhook},
	pullRoom:    {"delay", messageRoom, apart, invalid, killpoint, cloudevent},
	publishRoom: {"delay", messageRoom, "notify", formRoom, apart, invalid},
	storesRoom:  {"delay", messageRoom, apart, redisRoom},

	"order":     {"queue", "inventory", reconcileRoom, "notify", "store", killpoint, workerRoom},
	paymentRoom: {"order", "queue", "inventory", "notify", "store", killpoint, webhook, workerRoom},
	expiryRoom: {"order", "queue", "inventory", reconcileRoom, "notify", "store", apart, killpoint, redisRoom,
		workerRoom},
	lookupRoom:     {"order", "queue", "inventory", "notify", "store"},
	timelineRoom:   {"order", lookupRoom, "fleet", "queue", "inventory", "notify", "store", workerRoom, money},
	restoreRoom:    {"order", "queue", "inventory", reconcileRoom, "notify", "store"},
	deadletterRoom: {"order", "adminlog", "queue", "inventory", "store"},

	ratelimit: {"queue", budgetRoom, apart},
	authRoom:  {},
	"api": {"queue", "notify", formRoom, "store", "delay", "inventory", "order", paymentRoom, deadletterRoom, apart,
		invalid,
		redisRoom, coalesce, phone, cloudevent},
	coalesce:    {},
	expressRoom: {},
	httpServer:  {"api", authRoom, expressRoom, "store", coalesce, redisRoom, "queue"},
	"admin": {"api", authRoom, httpServer, ratelimit, coalesce, "adminlog", "settings", "fleet", "queue", "notify",
		"store", "delay", messageRoom, publishRoom, "inventory", reconcileRoom, auditRoom, "order", lookupRoom,
		timelineRoom, deadletterRoom, apart, invalid, redisRoom, channelRoom, formRoom},
	"work":    {"api", authRoom, httpServer, ratelimit, "delay", publishRoom, pullRoom, invalid},
	admission: {"api", "inventory", reconcileRoom, lookupRoom, "queue", coalesce, httpServer, killpoint, meter},
	"gateway": {"api", authRoom, ratelimit, admission, "queue", "inventory", reconcileRoom, "order", paymentRoom,
		lookupRoom, restoreRoom, invalid, webhook, httpServer, coalesce, phone},
	"trace":    {"queue", "notify", workerRoom},
	"fleet":    {"store", pattern, schemaRoom, luascript},
	budgetRoom: {apart, luascript},
	"configs": {"queue", "store", "delay", paymentRoom, "gateway", authRoom, ratelimit, "trace", redisRoom, channelRoom,
		httpServer, workerRoom, "work"},
	live: {"settings", "configs", "queue", "store", invalid},
	"app": {pattern, relayRoom, "adminlog", "settings", live, "fleet", budgetRoom, "queue", "notify", "store",
		"delay", messageRoom,
		publishRoom, pushRoom, pullRoom, storesRoom, "inventory", reconcileRoom, auditRoom, "order", paymentRoom,
		expiryRoom, lookupRoom, timelineRoom, restoreRoom,
		deadletterRoom, "gateway", authRoom, ratelimit, admission, "trace", "configs", redisRoom, channelRoom,
		webhook, httpServer, workerRoom, schemaRoom, "admin", phone, "work"},
	"cli": {"app", "api", "fleet", "queue", "notify", "store", "delay", "inventory", auditRoom, deadletterRoom,
		"gateway", authRoom, "configs", shoppers, redisRoom, schemaRoom, httpServer, "admin", money, cloudevent,
		killpoint},
	".":                {"cli"},
	"loadtest":         {},
	"examples":         {}, // programs of others
	"e2e":              {},
	"model":            {},
	"internal/testkit": {"store", schemaRoom}, // its tables
	shopkit:            {"configs", authRoom, "inventory", "queue", redisRoom, "internal/testkit", webhook},
	orderkit: {"order", paymentRoom, expiryRoom, lookupRoom, timelineRoom, restoreRoom, deadletterRoom, "adminlog",
		"inventory", reconcileRoom, auditRoom, "notify", "queue", "store", redisRoom, "internal/testkit"},
	queuekit:  {"queue", "internal/testkit"},
	outboxkit: {"notify", "store", "internal/testkit"},
	topicskit: {"delay", messageRoom, publishRoom, pushRoom, pullRoom, "notify", "store", "internal/testkit"},
	stackkit: {"admin", "adminlog", "api", "delay", messageRoom, "fleet", "gateway", authRoom, ratelimit, httpServer,
		"internal/testkit", "inventory", reconcileRoom, auditRoom, "notify", channelRoom, webhook, "order",
		paymentRoom, lookupRoom, restoreRoom, timelineRoom, deadletterRoom, "queue", workerRoom, "store", schemaRoom},
	shoppers:   {authRoom}, // tokens
	apart:      {},
	meter:      {},
	cloudevent: {},
	money:      {},
	phone:      {},
	workerRoom: {"queue", pattern, redisRoom, apart, killpoint},
	luascript:  {},
	redisRoom:  {},
	invalid:    {},
	pattern:    {},
	killpoint:  {},
}

// What is done with orders apart from making and cancelling them.
const (
	paymentRoom    = "order/payment"
	expiryRoom     = "order/expiry"
	lookupRoom     = "order/lookup"
	timelineRoom   = "order/timeline"
	restoreRoom    = "order/restore"
	deadletterRoom = "order/deadletter"
)

// delay knows topics and subscriptions. messageRoom keeps their messages in Redis, which storesRoom opens, the others
// bring them there and away.
const (
	messageRoom = "delay/message"
	publishRoom = "delay/publish"
	storesRoom  = "delay/stores"
	pushRoom    = "delay/push"
	pullRoom    = "delay/pull"
)

// ratelimit counts requests; it knows no HTTP. authRoom proves who sent one. admission takes orders into lines.
const (
	ratelimit = "gateway/ratelimit"
	authRoom  = "gateway/auth"
	admission = "gateway/admission"
)

// schemaRoom changes the tables and says who may use them; store opens the database without it.
const schemaRoom = "store/schema"

// reconcileRoom holds lines in agreement with sales, and mends what auditRoom finds. Both know sales, and no orders.
const (
	reconcileRoom = "inventory/reconcile"
	auditRoom     = "inventory/audit"
)

// budgetRoom deals rates that instances share; it knows neither processes nor databases.
const budgetRoom = "fleet/budgets"

// workerRoom drains lines; it knows tickets and no orders.
const workerRoom = "queue/worker"

// redisRoom opens Redis; it knows nothing of what is kept there.
const redisRoom = "store/redis"

// luascript calls scripts in Redis; it knows none of them.
const luascript = "internal/luascript"

// channelRoom holds the ways out of the outbox, formRoom writes what goes out; webhook signs calls and knows no room.
// relayRoom brings the outbox to them, alertRoom tells operators what was given up.
const (
	relayRoom   = "notify/relay"
	alertRoom   = "notify/alert"
	channelRoom = "notify/channel"
	formRoom    = "notify/form"
	webhook     = "notify/webhook"
)

// coalesce joins requests into calls; it is a leaf.
const coalesce = "internal/coalesce"

// expressRoom serves plain requests outside net/http.
const expressRoom = "gateway/express"

// httpServer is listeners, TLS and what stands around the routes of both.
const httpServer = "gateway/server"

// apart gives turns and meter measures rates; they know no other room.
const (
	apart = "internal/apart"
	meter = "internal/meter"
)

// money writes amounts and phone reads numbers; they know no other room.
const (
	money = "internal/money"
	phone = "internal/phone"
)

// live makes what operators set count in a process.
const live = "settings/live"

// cloudevent names messages by the attributes of CloudEvents; it is a leaf.
const cloudevent = "internal/cloudevent"

// invalid names fields that break a rule; it is a leaf.
const invalid = "internal/invalid"

// pattern matches names of sales and topics; it is a leaf.
const pattern = "internal/pattern"

// shoppers are those of the demonstration. shopkit is what is around a whole process in tests, stackkit a whole way of
// an order within one, orderkit one sale with every part around it, topicskit topics with
// receivers and readers, outboxkit an outbox with channels, queuekit one line.
const (
	shoppers  = "internal/shoppers"
	shopkit   = "internal/testkit/shop"
	orderkit  = "internal/testkit/orders"
	stackkit  = "internal/testkit/stack"
	topicskit = "internal/testkit/topics"
	outboxkit = "internal/testkit/outbox"
	queuekit  = "internal/testkit/queues"
)

// killpoint marks the steps at which a test build may die; it is a leaf.
const killpoint = "internal/killpoint"

// blackBoxes judge the product from outside: not even their tests look inside.
var blackBoxes = []string{"loadtest", "e2e"}

// testkit is where test code lives that is not in _test.go files.
const testkit = "internal/testkit"

// goPackage is what "go list -json" says about one package.
type goPackage struct {
	Dir, ImportPath                    string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-buildvcs=false", "-json", "./...")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, "go list: %s", &complaints)
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
	require.NotEmpty(t, all)
	return all
}

// roomOf returns the innermost room of a package of ours, "" if it has none.
func roomOf(importPath string) (found string) {
	if importPath == module {
		return "."
	}
	for room := range mayImport {
		whole := module + "/" + room
		if (importPath == whole || strings.HasPrefix(importPath, whole+"/")) && len(room) > len(found) {
			found = room
		}
	}
	return found
}

// forbidden returns those of imports, made in room, that the table does not allow.
func forbidden(room string, imports []string, allowed ...string) []string {
	var wrong []string
	for _, path := range imports {
		if path != module && !strings.HasPrefix(path, module+"/") {
			continue
		}
		target := roomOf(path)
		if target != room && !slices.Contains(mayImport[room], target) && !slices.Contains(allowed, target) {
			wrong = append(wrong, path)
		}
	}
	return wrong
}

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	var wrong []string
	for _, p := range listPackages(t) {
		room := roomOf(p.ImportPath)
		if room == "" {
			wrong = append(wrong, p.ImportPath+" is in no room of the table")
			continue
		}
		for _, path := range forbidden(room, p.Imports) {
			wrong = append(wrong, p.ImportPath+" imports "+path)
		}
		if slices.Contains(blackBoxes, room) {
			for _, path := range forbidden(room, slices.Concat(p.TestImports, p.XTestImports), testkit) {
				wrong = append(wrong, "a test of "+p.ImportPath+" imports "+path)
			}
		}
	}
	require.Empty(t, wrong, "the import table above does not allow this")
}

func TestTheTableRefuses(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"sluice/order"}, forbidden("inventory", []string{"fmt", "sluice/queue", "sluice/order"}))
	require.Equal(t, []string{"sluice/internal/testkit"}, forbidden("app", []string{"sluice/gateway",
		"sluice/internal/testkit"}))
	require.Equal(t, []string{"sluice"}, forbidden("configs", []string{"sluice"}))
	require.Equal(t, []string{"sluice/elsewhere"}, forbidden("gateway", []string{"sluice/elsewhere"}))
	require.Empty(t, forbidden("queue", []string{"sluice/queue/inner", "sluicegate.example/queue"}))
	require.Empty(t, roomOf("sluice/queueing"))
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	var silent []string
	for _, p := range listPackages(t) {
		files := slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles)
		if len(p.GoFiles) > 0 {
			files = p.GoFiles // documentation ignores comments in tests
		}
		documented := slices.ContainsFunc(files, func(name string) bool {
			file := parse(t, filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			return file.Doc.Text() != ""
		})
		if !documented {
			silent = append(silent, p.ImportPath)
		}
	}
	require.Empty(t, silent, "packages without a package comment")
}
