package work_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/auth"
	"sluice/internal/testkit/stack"
	"sluice/work"
)

// The listener serves no route that its document does not describe, nor the other way round.
func TestDocumentAndRoutesAreEqual(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var routes, described []string
	for _, r := range w.listener.Handler().Routes() {
		path := strings.NewReplacer(":topic", "{topic}", ":id", "{id}", ":name", "{name}").Replace(r.Path)
		routes = append(routes, r.Method+" "+path)
	}
	ids := map[string]bool{}
	for path, item := range stack.StrictDocument(t, api.OpenAPIWork()).Paths.Map() {
		for method, operation := range item.Operations() {
			described = append(described, method+" "+path)
			require.False(t, ids[operation.OperationID], operation.OperationID)
			ids[operation.OperationID] = true
		}
	}
	require.ElementsMatch(t, described, routes)
	require.JSONEq(t, string(api.OpenAPIWork()), w.ask("", http.MethodGet, "/openapi.json", "").Raw)
	require.Equal(t, http.StatusNotFound, w.ask(w.all, http.MethodGet, "/work/v1/topics", "").Status)
	require.Equal(t, http.StatusMethodNotAllowed,
		w.ask(w.all, http.MethodGet, "/work/v1/subscriptions/stock/receive", "").Status)
}

// A token opens the topics and subscriptions that it names, each for one thing, and tells nothing of others.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publisher := w.token(auth.Rights{System: "points", Publish: []string{"points"}})
	receiver := w.token(auth.Rights{System: "logistics", Subscribe: []string{"stock"}})
	shopper, err := auth.Mint(stack.Auth(), "ann", false, time.Hour, time.Now())
	require.NoError(t, err)
	operator, err := auth.Mint(stack.Auth(), "root", true, time.Hour, time.Now())
	require.NoError(t, err)
	const add, message = "/work/v1/topics/points/messages", `{"messages":[{"id":"a","delay_ms":0,"body":1}]}`
	const look, receive = add + "/a", "/work/v1/subscriptions/stock/receive"
	for _, one := range []struct {
		token, method, path, body string
		want                      int
	}{
		{publisher, "POST", add, message, 200},
		{publisher, "GET", look, "", 200},
		{publisher, "POST", "/work/v1/topics/lonely/messages", message, 403},
		{publisher, "POST", "/work/v1/topics/never-was/messages", message, 403},
		{publisher, "GET", "/work/v1/topics/lonely/messages/a", "", 403},
		{publisher, "DELETE", "/work/v1/topics/lonely/messages/a", "", 403},
		{publisher, "POST", receive, "", 403},
		{publisher, "POST", "/work/v1/subscriptions/stock/ack", `{"leases":["x"]}`, 403},
		{publisher, "POST", "/work/v1/subscriptions/stock/nack", `{"leases":["x"]}`, 403},
		{publisher, "POST", "/work/v1/subscriptions/stock/extend", `{"leases":["x"],"lease_ms":1000}`, 403},
		{receiver, "POST", receive, "", 200},
		{receiver, "POST", "/work/v1/subscriptions/books/receive", "", 403},
		{receiver, "POST", "/work/v1/subscriptions/never-was/receive", "", 403},
		{receiver, "POST", add, message, 403},
		{receiver, "GET", look, "", 403},
		{receiver, "DELETE", look, "", 403},
		{operator, "POST", add, message, 403},
		{operator, "POST", receive, "", 403},
		{shopper, "POST", add, message, 401},
		{shopper, "POST", receive, "", 401},
		{"", "POST", add, message, 401},
		{"", "POST", receive, "", 401},
	} {
		a := w.ask(one.token, one.method, one.path, one.body)
		require.Equal(t, one.want, a.Status, "%s %s: %s", one.method, one.path, a.Raw)
	}
}

// A message from its publisher to two subscriptions: each has its own place, attempts and end.
func TestTheWayOfAMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("m1")
	w.add("m1") // may be repeated
	first := w.one("stock")
	require.Equal(t, "m1", first.ID)
	require.Equal(t, []string{"1.0", "/sluice/topics/points", "message"},
		[]string{first.SpecVersion, first.Source, first.Type})
	require.Equal(t, 1, first.Attempt)
	require.JSONEq(t, `{"of":"m1"}`, string(first.Body))
	require.Empty(t, w.receive("stock", ""), "nobody else gets it")

	extended := w.post(http.StatusOK, "/subscriptions/stock/extend", leases(t, `,"lease_ms":60000`, first))
	require.EqualValues(t, 1, extended.Num("stood"))
	back := w.post(http.StatusOK, "/subscriptions/stock/nack", leases(t, `,"delay_ms":0`, first))
	require.EqualValues(t, 1, back.Num("stood"))
	second := w.one("stock")
	require.Equal(t, 2, second.Attempt)

	late := w.post(http.StatusOK, "/subscriptions/stock/ack", leases(t, "", first))
	require.Zero(t, late.Num("stood"), "the lease was another's by now")
	require.Equal(t, []any{first.Lease}, late.Body["fenced"])
	mixed := w.post(http.StatusOK, "/subscriptions/stock/ack", leases(t, "", first, second))
	require.EqualValues(t, 1, mixed.Num("stood"))
	require.Equal(t, []any{first.Lease}, mixed.Body["fenced"])

	again := w.one("books")
	require.Equal(t, 1, again.Attempt, "its place is its own")
	w.post(http.StatusOK, "/subscriptions/books/nack", leases(t, "", again)) // by its schedule
	again = w.one("books")
	w.post(http.StatusOK, "/subscriptions/books/nack", leases(t, "", again))
	shown := w.ask(w.all, http.MethodGet, "/work/v1/topics/points/messages/m1", "")
	states := map[string]any{}
	for _, d := range shown.Body["deliveries"].([]any) {
		states[d.(map[string]any)["subscription"].(string)] = d.(map[string]any)["state"]
	}
	require.Equal(t, map[string]any{"stock": "delivered", "books": "dead", "pushed": "pending"}, states)
	require.InDelta(t, 2, w.metric("sluice_work_published_total", "added"), 0)
}

func TestPublishersCancelAndAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path = "/topics/points/messages"
	w.post(http.StatusOK, path, `{"messages":[{"id":"later","delay_ms":3600000,"event":"e","sale":"s","body":1}]}`)
	require.Equal(t, http.StatusNoContent, w.ask(w.all, http.MethodDelete, "/work/v1"+path+"/later", "").Status)
	require.Equal(t, http.StatusNoContent, w.ask(w.all, http.MethodDelete, "/work/v1"+path+"/later", "").Status)
	require.Equal(t, http.StatusNotFound, w.ask(w.all, http.MethodDelete, "/work/v1"+path+"/nothing", "").Status)
	require.Equal(t, http.StatusNotFound, w.ask(w.all, http.MethodGet, "/work/v1"+path+"/nothing", "").Status)
	w.add("held")
	w.one("stock")
	w.one("books")

	for body, want := range map[string]int{
		`{"messages":[{"id":"o1:order.paid","body":1}]}`: 400, // ours
		`{"messages":[]}`: 400, `{"messages":[{"id":"x"}]}`: 400, `{`: 400, ``: 400,
		`{"messages":[{"id":"x","body":1}],"reason":"by hand"}`:     400, // operators give reasons
		`{"messages":[{"id":"held","body":2}]}`:                     409,
		`{"messages":[{"id":"x","body":"` + tooLong(9<<20) + `"}]}`: 413,
	} {
		w.post(want, path, body)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		require.Equal(t, http.StatusForbidden, w.ask(w.all, method, "/work/v1"+path+"/o1:order.paid", "").Status)
	}
	w.post(http.StatusConflict, "/topics/lonely/messages", `{"messages":[{"id":"x","body":1}]}`)
	w.post(http.StatusNotFound, "/topics/none/messages", `{"messages":[{"id":"x","body":1}]}`)
	r := w.request(w.all, http.MethodPost, "/work/v1"+path, `<message/>`)
	r.Header.Set("Content-Type", "application/xml")
	resp, err := w.client.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnsupportedMediaType, resp.StatusCode)
}

func tooLong(n int) string { return strings.Repeat("x", n) }

func TestReceiversAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, want := range map[string]int{
		`{"max":0}`: 400, `{"max":1001}`: 400, `{"wait":"31s"}`: 400, `{"wait":"-1s"}`: 400, `{"wait":"soon"}`: 400,
		`{"wait":20}`: 400, `{"most":1}`: 400, `{"wait":"` + tooLong(5<<10) + `"}`: 413,
	} {
		w.post(want, "/subscriptions/stock/receive", body)
	}
	for path, bodies := range map[string][]string{
		"ack":    {``, `{"leases":[]}`, `{"leases":["no lease"]}`},
		"nack":   {`{"leases":["` + "AAAA" + `"]}`, `{"leases":["x"],"delay_ms":-1}`},
		"extend": {`{"leases":["x"]}`, `{"leases":["x"],"lease_ms":43200001}`},
	} {
		for _, body := range bodies {
			w.post(http.StatusBadRequest, "/subscriptions/stock/"+path, body)
		}
		w.post(http.StatusRequestEntityTooLarge, "/subscriptions/stock/"+path, `{"leases":["`+tooLong(513<<10)+`"]}`)
	}
	w.post(http.StatusConflict, "/subscriptions/pushed/receive", "")
	w.post(http.StatusNotFound, "/subscriptions/none/receive", `{"wait":"20s"}`)
}

// Each publisher has a limit of its own, and is told when to come back.
func TestPublishersHaveALimitEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *work.Config) { c.PublishRPS, c.PublishBurst = 0.001, 2 })
	const path, body = "/work/v1/topics/points/messages", `{"messages":[{"id":"a","body":1}]}`
	for range 2 {
		require.Equal(t, http.StatusOK, w.ask(w.all, http.MethodPost, path, body).Status)
	}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		target := path
		if method != http.MethodPost {
			target += "/a"
		}
		a := w.ask(w.all, method, target, body)
		require.Equal(t, http.StatusTooManyRequests, a.Status)
		require.Greater(t, a.RetryAfter(), 900)
	}
	other := w.token(auth.Rights{System: "other", Publish: []string{"points"}})
	require.Equal(t, http.StatusOK, w.ask(other, http.MethodPost, path, body).Status)
	w.post(http.StatusOK, "/subscriptions/stock/receive", "")
}
