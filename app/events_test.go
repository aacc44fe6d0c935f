package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
	"sluice/inventory"
	"sluice/notify"
	"sluice/notify/webhook"
)

// eventSale is a process that sells with payments, and everything that hears of its orders.
type eventSale struct {
	*testing.T
	app    *App
	hook   *shop.Endpoint
	client *http.Client
}

func newEventSale(t *testing.T) *eventSale {
	t.Helper()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	s := &eventSale{T: t, hook: shop.NewEndpoint(t), client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.hook.Status.Store(http.StatusOK)
	cfg.Payment.Secret, cfg.Payment.Timeout = []string{shop.HookSecret}, 2*time.Second
	cfg.Notify.Webhook.Enabled, cfg.Notify.Webhook.URL = true, s.hook.URL+"/hook"
	cfg.Notify.Webhook.Secrets, cfg.Notify.Webhook.AllowPrivate = []string{shop.HookSecret}, true
	cfg.Delay.OrderEvents, cfg.Delay.AllowPrivate, cfg.Work.Addr = true, true, "127.0.0.1:0"
	require.NoError(t, cfg.Validate())
	s.app = startApp(t, cfg, AllRoles())
	_, err := s.app.topics.Create(t.Context(), "orders", delay.Change{URL: new(s.hook.URL + "/topic"),
		Secret: new(shop.HookSecret), Events: new(notify.Events())}, "ann", "")
	require.NoError(t, err)
	_, err = s.app.topics.CreateSubscription(t.Context(), delay.NewSubscription{Name: "stock", Topic: "orders",
		Kind: delay.Pull}, delay.SubscriptionChange{}, "ann", "")
	require.NoError(t, err)
	return s
}

// order places the n-th shopper's order and returns its address.
func (s *eventSale) order(sale string, n int) string {
	s.Helper()
	resp, err := s.client.Do(shop.Order(s.T, s.app.Addr(), sale, n))
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	require.Equal(s, http.StatusAccepted, resp.StatusCode)
	return resp.Header.Get("Location")
}

// await polls the n-th shopper's order until it has a status.
func (s *eventSale) await(location string, n int, status string) {
	s.Helper()
	require.Eventually(s, func() bool {
		resp, err := s.client.Do(shop.Request(s.T, http.MethodGet, "http://"+s.app.Addr()+location,
			"shopper-"+strconv.Itoa(n)))
		require.NoError(s, err)
		defer resp.Body.Close()
		var order api.Order
		require.NoError(s, json.NewDecoder(resp.Body).Decode(&order))
		return order.Status == status
	}, 30*time.Second, 10*time.Millisecond, "%s never was %s", location, status)
}

// pay is the payment provider's signed call.
func (s *eventSale) pay(location, id string) {
	s.Helper()
	body := `{"payment_id":"` + id + `","amount_cents":9900,"currency":"CNY"}`
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+s.app.Addr()+location+"/payment",
		strings.NewReader(body))
	require.NoError(s, err)
	signer, err := webhook.NewSigner(shop.HookSecret)
	require.NoError(s, err)
	signer.Sign(req.Header, id, time.Now(), []byte(body))
	resp, err := s.client.Do(req)
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	require.Equal(s, http.StatusOK, resp.StatusCode)
}

// sell lets every event of an order happen.
func (s *eventSale) sell() {
	s.Helper()
	operate(s.T, s.app, 0, map[string]any{"queue.drain": false})
	openSale(s.T, inventory.NewSale{ID: "short", Stock: 1}, s.app)
	failed := s.order("short", 0)
	status, text := asSystem(s.T, s.client, adminToken(s.T), http.MethodPost,
		"http://"+s.app.OpsAddr()+"/admin/v1/sales/short/stock", `{"delta":-1,"reason":"broken"}`)
	require.Equal(s, http.StatusOK, status, text)
	operate(s.T, s.app, 0, map[string]any{"queue.drain": true})
	s.await(failed, 0, "failed")

	openSale(s.T, inventory.NewSale{ID: "events", Stock: 3}, s.app)
	paid, cancelled, expired := s.order("events", 0), s.order("events", 1), s.order("events", 2)
	s.await(paid, 0, "confirmed")
	s.pay(paid, "first")
	s.pay(paid, "second")
	s.await(cancelled, 1, "confirmed")
	resp, err := s.client.Do(shop.Request(s.T, http.MethodDelete, "http://"+s.app.Addr()+cancelled, "shopper-1"))
	require.NoError(s, err)
	require.NoError(s, resp.Body.Close())
	s.await(expired, 2, "expired")
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return text
}

func adminToken(t *testing.T) string {
	t.Helper()
	token, err := auth.Mint(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}, "root", true, time.Hour, time.Now())
	require.NoError(t, err)
	return token
}

// fromCalls returns the bodies of signed calls: of the webhook at /hook, of the topic at /topic.
func (s *eventSale) fromCalls(path string) []string { return strings.Split(s.hook.Bodies(path), "\n") }

// fromReader returns the bodies of n messages that a reader of the pull subscription receives.
func (s *eventSale) fromReader(n int) (list []string) {
	token := systemsToken(s.T, auth.Rights{Subscribe: []string{"stock"}})
	for len(list) < n {
		status, text := asSystem(s.T, s.client, token, http.MethodPost,
			"http://"+s.app.WorkAddr()+"/work/v1/subscriptions/stock/receive", `{"max":100,"wait":"30s"}`)
		require.Equal(s, http.StatusOK, status, text)
		var got api.ReceivedMessages
		require.NoError(s, json.Unmarshal([]byte(text), &got))
		require.NotEmpty(s, got.Messages)
		for _, m := range got.Messages {
			list = append(list, string(m.Body))
		}
	}
	return list
}

// fromStream returns the entries of the Redis stream in the form that docs/events/README.md gives them.
func (s *eventSale) fromStream() (list []string) {
	entries, err := s.app.redis.Client.XRange(s.Context(), "sluice:events", "-", "+").Result()
	require.NoError(s, err)
	longer := map[string]string{"order": "order_id", "sale": "sale_id", "user": "user_id", "event": "type"}
	for _, e := range entries {
		entry := map[string]any{}
		for name, value := range e.Values {
			if long, ok := longer[name]; ok {
				name = long
			}
			entry[name] = value
		}
		for _, name := range []string{"version", "quantity", "price_cents"} {
			entry[name] = json.Number(entry[name].(string))
		}
		ms, err := strconv.ParseInt(entry["at"].(string), 10, 64)
		require.NoError(s, err)
		entry["at"] = time.UnixMilli(ms).UTC().Format(time.RFC3339Nano)
		text, err := json.Marshal(entry)
		require.NoError(s, err)
		list = append(list, string(text))
	}
	return list
}

// fromLog returns the first n events that the operations listener streams.
func (s *eventSale) fromLog(n int) (list []string) {
	req, err := http.NewRequestWithContext(s.Context(), http.MethodGet,
		"http://"+s.app.OpsAddr()+"/admin/v1/events?from=0", nil)
	require.NoError(s, err)
	req.Header.Set("Authorization", "Bearer "+adminToken(s.T))
	resp, err := s.client.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close()
	for in := bufio.NewScanner(resp.Body); len(list) < n && in.Scan(); {
		if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			list = append(list, data)
		}
	}
	return list
}

// eventSchema is the schema of one event, with the names of all fields that it has in one of its two forms.
type eventSchema struct {
	form   *jsonschema.Schema
	fields map[string]bool
	raw    map[string]any
}

// readSchema reads the schema of a form, message or entry.
func readSchema(t *testing.T, event, form string) eventSchema {
	t.Helper()
	file := "../docs/events/" + event + ".schema.json"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	compiled, err := c.Compile(file + "#/$defs/" + form)
	require.NoError(t, err)
	s := eventSchema{form: compiled, fields: map[string]bool{}}
	text := string(readFile(t, file))
	require.NoError(t, json.Unmarshal([]byte(text), &s.raw))
	defs := s.raw["$defs"].(map[string]any)
	for _, of := range []string{form, "order"} {
		for name := range defs[of].(map[string]any)["properties"].(map[string]any) {
			s.fields[name] = true
		}
	}
	return s
}

// requireDescribed holds events of one form against their schemas, and the schemas against the events: there is no
// field that only one of them has.
func requireDescribed(t *testing.T, way, form string, events []string) {
	t.Helper()
	seen := map[string]map[string]bool{}
	for _, text := range events {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		require.NoError(t, err, "%s sent %q", way, text)
		members := value.(map[string]any)
		event := members["type"].(string)
		require.NoError(t, readSchema(t, event, form).form.Validate(value), "%s sent %s", way, text)
		if seen[event] == nil {
			seen[event] = map[string]bool{}
		}
		data, _ := members["data"].(map[string]any)
		for _, name := range slices.Concat(slices.Collect(maps.Keys(members)), slices.Collect(maps.Keys(data))) {
			seen[event][name] = true
		}
	}
	for _, event := range notify.Events() {
		described := readSchema(t, event, form).fields
		if event == notify.EventRefundRequired { // the one of this sale came for a paid order
			delete(described, "reason")
			delete(described, "ended_at")
		}
		require.Equal(t, described, seen[event], "%s, event %s: described, and sent", way, event)
	}
}

// TestEventsAreAsTheirSchemasSay sells with every event of an order, and holds what every way sends against the
// schemas of docs/events.
func TestEventsAreAsTheirSchemasSay(t *testing.T) {
	t.Parallel()
	s := newEventSale(t)
	s.sell()
	const happened = 8 // 4 orders: 3 confirmed, and paid, refund required, cancelled, expired, failed
	require.Eventually(t, func() bool {
		return len(s.fromCalls("/hook")) == happened && len(s.fromCalls("/topic")) == happened &&
			len(s.fromStream()) == happened
	}, 30*time.Second, 20*time.Millisecond)
	requireDescribed(t, "the webhook", "message", s.fromCalls("/hook"))
	requireDescribed(t, "the topic", "message", s.fromCalls("/topic"))
	requireDescribed(t, "the reader", "message", s.fromReader(happened))
	requireDescribed(t, "the stream", "entry", s.fromStream())
	requireDescribed(t, "the event log", "entry", s.fromLog(happened))
}

// TestEventsHaveSchemasWithExamples checks that each event has a schema with an example of each of its forms, and a
// line in the table.
func TestEventsHaveSchemasWithExamples(t *testing.T) {
	t.Parallel()
	table := string(readFile(t, "../docs/events/README.md"))
	for _, event := range notify.Events() {
		require.Contains(t, table, fmt.Sprintf("| `%s` |", event))
		require.Contains(t, table, "("+event+".schema.json)")
		for i, form := range []string{"message", "entry"} {
			s := readSchema(t, event, form)
			example := s.raw["examples"].([]any)[i]
			require.NoError(t, s.form.Validate(example), "%s, example of form %s", event, form)
			for _, required := range s.raw["$defs"].(map[string]any)[form].(map[string]any)["required"].([]any) {
				less := maps.Clone(example.(map[string]any))
				delete(less, required.(string))
				require.Error(t, s.form.Validate(less), "%s without %s", event, required)
			}
		}
	}
}
