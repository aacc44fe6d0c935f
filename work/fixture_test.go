package work_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/publish"
	"sluice/delay/pull"
	"sluice/gateway/auth"
	"sluice/gateway/server"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
	"sluice/internal/testkit/tables"
	"sluice/store"
	"sluice/store/schema"
	"sluice/work"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m) }

// world is a work listener on a port of its own, with topic points and its subscriptions stock and books.
type world struct {
	t        *testing.T
	listener *work.Listener
	addr     string
	client   *http.Client // holds every answer against the document
	reg      *prometheus.Registry
	redis    *miniredis.Miniredis
	topics   *delay.Topics
	all      string // a token for everything that there is
	log      *bytes.Buffer
}

func newWorld(t *testing.T, edits ...func(*work.Config)) *world {
	t.Helper()
	cfg := work.DefaultConfig()
	for _, edit := range edits {
		edit(&cfg)
	}
	w := &world{t: t, reg: prometheus.NewRegistry(), redis: testkit.Embedded(t), log: &bytes.Buffer{}}
	database := tables.New(t, "sqlite")
	sc := store.DefaultConfig()
	sc.Driver, sc.DSN = database.Driver, database.DSN
	db, err := store.Open(t.Context(), sc, stack.QuietLog())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = schema.Of(db).Migrate(t.Context())
	require.NoError(t, err)
	dc := delay.DefaultConfig()
	dc.Poll, dc.Jitter = 5*time.Millisecond, 0
	messages := message.NewStore(message.StoreParts{Config: dc,
		Places: message.Only(testkit.RedisClient(t, w.redis.Addr()), "sluice"), Now: time.Now})
	topics := delay.NewTopics(delay.TopicsParts{Config: dc, DB: db, Messages: messages, Log: stack.QuietLog(),
		Now: time.Now})
	w.topics = topics
	w.fill(topics)
	authenticator, err := auth.NewAuthenticator(stack.Auth(), nil, time.Now)
	require.NoError(t, err)
	w.listener = work.New(work.Parts{Config: cfg, Auth: authenticator, Topics: topics,
		Publisher: publish.New(topics, messages),
		Readers: pull.NewReaders(pull.ReadersParts{Config: dc, Topics: topics, Messages: messages,
			Registry: w.reg}),
		Barred: func() error { return nil }, Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: time.Now,
		Registry: w.reg})
	w.addr = stack.Serve(t, server.DefaultHTTPConfig(), w.listener.Handler())
	w.client = stack.CheckedClient(t, api.OpenAPIWork())
	w.all = w.token(auth.Rights{System: "all", Publish: []string{"points", "lonely", "none"},
		Subscribe: []string{"stock", "books", "pushed", "late", "none"}})
	t.Cleanup(w.listener.Drain)
	return w
}

func (w *world) fill(topics *delay.Topics) {
	w.t.Helper()
	for _, name := range []string{"points", "lonely"} {
		_, err := topics.Create(w.t.Context(), name, delay.Change{URL: new("")}, "ann", "")
		require.NoError(w.t, err)
	}
	for _, name := range []string{"stock", "books"} {
		n := delay.NewSubscription{Name: name, Topic: "points", Kind: delay.Pull}
		_, err := topics.CreateSubscription(w.t.Context(), n, delay.SubscriptionChange{Retries: new(1),
			RetryUnitMS: new(int64(10))}, "ann", "")
		require.NoError(w.t, err)
	}
	_, err := topics.CreateSubscription(w.t.Context(), delay.NewSubscription{Name: "pushed", Topic: "points",
		Kind: delay.Push}, delay.SubscriptionChange{URL: new("https://shop.example/hook")}, "ann", "")
	require.NoError(w.t, err)
}

func (w *world) token(rights auth.Rights) string {
	w.t.Helper()
	token, err := auth.MintWork(stack.Auth(), rights, time.Hour, time.Now())
	require.NoError(w.t, err)
	return token
}

// request is a request with a token; "" is none.
func (w *world) request(token, method, path, body string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.addr+path, strings.NewReader(body))
	require.NoError(w.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// ask sends a request and reads the answer.
func (w *world) ask(token, method, path, body string) stack.Answer {
	w.t.Helper()
	resp, err := w.client.Do(w.request(token, method, path, body))
	require.NoError(w.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	a := stack.Answer{Status: resp.StatusCode, Header: resp.Header, Raw: string(raw)}
	if len(raw) > 0 {
		require.NoError(w.t, json.Unmarshal(raw, &a.Body))
	}
	return a
}

// post sends a body with the token for everything, and wants a status.
func (w *world) post(status int, path, body string) stack.Answer {
	w.t.Helper()
	a := w.ask(w.all, http.MethodPost, "/work/v1"+path, body)
	require.Equal(w.t, status, a.Status, a.Raw)
	return a
}

// add adds a message that is due at once.
func (w *world) add(id string) {
	w.t.Helper()
	w.post(http.StatusOK, "/topics/points/messages", `{"messages":[{"id":"`+id+`","body":{"of":"`+id+`"}}]}`)
}

// receive receives from a subscription, and returns the messages.
func (w *world) receive(subscription, body string) []api.ReceivedMessage {
	w.t.Helper()
	var got api.ReceivedMessages
	require.NoError(w.t, json.Unmarshal([]byte(w.post(http.StatusOK, "/subscriptions/"+subscription+"/receive",
		body).Raw), &got))
	return got.Messages
}

// one receives the only message that a subscription has.
func (w *world) one(subscription string) api.ReceivedMessage {
	w.t.Helper()
	got := w.receive(subscription, `{"max":1000,"wait":"20s"}`)
	require.Len(w.t, got, 1)
	return got[0]
}

// leases is a body that names leases, with more members behind them.
func leases(t *testing.T, more string, of ...api.ReceivedMessage) string {
	t.Helper()
	var list []string
	for _, m := range of {
		list = append(list, m.Lease)
	}
	text, err := json.Marshal(list)
	require.NoError(t, err)
	return `{"leases":` + string(text) + more + `}`
}
