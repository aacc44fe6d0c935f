package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/internal/testkit"
	"sluice/internal/testkit/stack"
)

func TestAdminNeedsAnAdministrator(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	seen := 0
	for _, route := range s.OpsEngine.Routes() {
		if !strings.HasPrefix(route.Path, "/admin/") {
			continue
		}
		seen++
		path := strings.NewReplacer(":sale", "phone", ":id", stack.NewUUID()).Replace(route.Path)
		for name, token := range map[string]string{"nobody": "", "a shopper": s.Token("ann", false), "nonsense": "x"} {
			g := s.OpsAs(token, route.Method, path, "")
			s.Refused(api.CodeUnauthorized, g)
			require.Equal(t, name != "nobody", strings.Contains(g.Header.Get("WWW-Authenticate"),
				"invalid_token"), name)
		}
	}
	require.GreaterOrEqual(t, seen, 12)
	require.Equal(t, http.StatusOK, s.Admin(http.MethodGet, "/admin/v1/sales", "").Status)
}

func TestAdminRunsASale(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	require.Equal(t, []any{}, s.Admin(http.MethodGet, "/admin/v1/sales", "").Body["sales"])
	require.Equal(t, []any{}, s.Admin(http.MethodGet, "/admin/v1/queue", "").Body["lines"])

	g := s.Admin(http.MethodPost, "/admin/v1/sales",
		`{"id":"phone","title":"Phone X","sku":"PX","stock":3,"price_cents":9900}`)
	require.Equal(t, http.StatusCreated, g.Status, g.Raw)
	require.Equal(t, "draft", g.Text("admin_state"))
	require.Equal(t, "scheduled", g.Text("state"))
	require.Equal(t, "CNY", g.Text("currency"))
	require.EqualValues(t, 1, g.Num("per_user_limit"))
	require.EqualValues(t, 3, g.Num("available"))
	starts, err := time.Parse(api.TimeFormat, g.Text("starts_at"))
	require.NoError(t, err)
	ends, err := time.Parse(api.TimeFormat, g.Text("ends_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), starts, time.Minute)
	require.Equal(t, 24*time.Hour, ends.Sub(starts))
	s.Refused(api.CodeSaleNotStarted, s.Order("ann", "phone", ""))

	// Each change is in the line before its answer: what comes next meets it.
	sale := "/admin/v1/sales/phone"
	require.Equal(t, "open", s.Admin(http.MethodPost, sale+"/open", "").Text("state"))
	path := s.Place("ann", "phone")
	require.Equal(t, "paused", s.Admin(http.MethodPost, sale+"/pause", `{"reason":"look"}`).Text("state"))
	s.Refused(api.CodeSalePaused, s.Order("bob", "phone", ""))
	require.Equal(t, "open", s.Admin(http.MethodPost, sale+"/open", `{}`).Text("state"))
	g = s.Admin(http.MethodPatch, sale, `{"cap":1,"per_user_limit":2,"reason":"narrow"}`)
	require.EqualValues(t, 1, g.Num("cap"), g.Raw)
	require.EqualValues(t, 2, g.Num("per_user_limit"))
	require.EqualValues(t, 1, g.Body["line"].(map[string]any)["depth"])
	require.EqualValues(t, 1, g.Body["line"].(map[string]any)["capacity"])
	s.Refused(api.CodeQueueFull, s.Order("bob", "phone", ""))
	g = s.Admin(http.MethodPost, sale+"/stock", `{"delta":7,"reason":"second delivery"}`)
	require.EqualValues(t, 10, g.Num("stock_total"), g.Raw)
	require.EqualValues(t, 9, g.Num("remaining"))
	g = s.Admin(http.MethodPatch, sale, `{"ends_at":"`+time.Now().Add(-time.Second).UTC().
		Format(time.RFC3339)+`","starts_at":"2020-01-01T00:00:00Z","cap":0}`)
	require.Equal(t, "ended", g.Text("state"), g.Raw)
	s.Refused(api.CodeSaleEnded, s.Order("bob", "phone", ""))
	require.Equal(t, "closed", s.Admin(http.MethodPost, sale+"/close", `{"reason":"done"}`).Text("admin_state"))

	var lines []any
	require.Eventually(t, func() bool { // a closed sale's line is shown once the sale cache has seen it
		lines = s.Admin(http.MethodGet, "/admin/v1/queue", "").Body["lines"].([]any)
		return len(lines) == 1
	}, stack.Patience, 10*time.Millisecond)
	line := lines[0].(map[string]any)
	require.Equal(t, "phone", line["sale"])
	require.EqualValues(t, 1, line["depth"])
	require.EqualValues(t, 1, line["admitted"])
	require.Equal(t, false, line["rebuilding"])
	s.Work()
	s.Until("ann", path, "confirmed")
	audit := s.Admin(http.MethodGet, "/admin/v1/audit", "")
	require.Equal(t, true, audit.Body["clean"], audit.Raw)
	require.Equal(t, "clean", audit.Text("verdict"))
	require.Equal(t, true, s.Admin(http.MethodGet, "/admin/v1/audit?sale=phone", "").Body["clean"])

	var rows []struct{ Actor, Action, Target, Reason string }
	require.NoError(t, s.DB.Read.Table("admin_log").Order("id").Find(&rows).Error)
	var actions []string
	for _, row := range rows {
		require.Equal(t, "root", row.Actor)
		require.Equal(t, "phone", row.Target)
		actions = append(actions, row.Action+" "+row.Reason)
	}
	require.Equal(t, []string{"sale.create ", "sale.open ", "sale.paused look", "sale.open ", "sale.update narrow",
		"stock.adjust second delivery",
		"sale.update ", "sale.closed done"}, actions)
}

func TestAdminRefusals(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 3, stack.LimitOf(2))
	s.Sell("closed", 3)
	s.SetState("closed", "closed")
	for _, one := range []struct {
		method, path, body string
		code               api.Code
		field              string
	}{
		{"POST", "/sales",
			`{"id":"-bad","title":"","sku":"s","stock":-1,"price_cents":-1,"currency":"yuan","per_user_limit":0,` +
				`"cap":-1}`, api.CodeInvalidRequest,
			"id title stock price_cents currency per_user_limit cap"},
		{"POST", "/sales",
			`{"id":"a","title":"t","sku":"s","starts_at":"2030-01-01T00:00:00Z","ends_at":"2029-01-01T00:00:00Z"}`,
			api.CodeInvalidRequest, "ends_at"},
		{"POST", "/sales", `{"id":"a","title":"t","sku":"s","starts_at":"tomorrow"}`,
			api.CodeInvalidRequest, "starts_at"},
		{"POST", "/sales", `{"id":"a","title":"t","sku":"s","stock":"many"}`, api.CodeInvalidRequest, "stock"},
		{"POST", "/sales", `{"id":"a","title":"t","sku":"s","stok":1}`, api.CodeInvalidRequest, "stok"},
		{"POST", "/sales", `{"id":"a","id":"b"}`, api.CodeInvalidRequest, "id"},
		{"POST", "/sales", `{`, api.CodeInvalidRequest, "body"},
		{"POST", "/sales", ``, api.CodeInvalidRequest, "id title sku"},
		{"POST", "/sales", `{"id":"phone","title":"t","sku":"s"}`, api.CodeConflict, ""},
		{"POST", "/sales", `"` + strings.Repeat("a", 17<<10) + `"`, api.CodeTooLarge, ""},
		{"GET", "/sales/nothing", ``, api.CodeNotFound, ""},
		{"GET", "/sales/a%0Ab", ``, api.CodeNotFound, ""},
		{"PATCH", "/sales/nothing", `{"cap":1}`, api.CodeNotFound, ""},
		{"PATCH", "/sales/phone", `{"cap":-1}`, api.CodeInvalidRequest, "cap"},
		{"PATCH", "/sales/phone", `{"per_user_limit":1}`, api.CodeInvalidRequest, "per_user_limit"},
		{"PATCH", "/sales/phone", `{"Cap":1}`, api.CodeInvalidRequest, "Cap"},
		{"PATCH", "/sales/phone", `{"ends_at":"2020-01-01T00:00:00Z"}`, api.CodeInvalidRequest, "ends_at"},
		{"PATCH", "/sales/closed", `{"cap":1}`, api.CodeConflict, ""},
		{"POST", "/sales/nothing/open", ``, api.CodeNotFound, ""},
		{"POST", "/sales/phone/open", `{"why":"x"}`, api.CodeInvalidRequest, "why"},
		{"POST", "/sales/closed/open", ``, api.CodeConflict, ""},
		{"POST", "/sales/phone/stock", `{"delta":1}`, api.CodeInvalidRequest, "reason"},
		{"POST", "/sales/phone/stock", `{}`, api.CodeInvalidRequest, "delta reason"},
		{"POST", "/sales/phone/stock", `{"delta":0,"reason":"x"}`, api.CodeInvalidRequest, "delta"},
		{"POST", "/sales/phone/stock", `{"delta":1.5,"reason":"x"}`, api.CodeInvalidRequest, "delta"},
		{"POST", "/sales/phone/stock", `{"delta":-4,"reason":"x"}`, api.CodeConflict, ""},
		{"POST", "/sales/nothing/stock", `{"delta":1,"reason":"x"}`, api.CodeNotFound, ""},
		{"POST", "/sales/closed/stock", `{"delta":1,"reason":"x"}`, api.CodeConflict, ""},
		{"GET", "/sales/nothing/orders", ``, api.CodeNotFound, ""},
		{"GET", "/sales/phone/orders?limit=0", ``, api.CodeInvalidRequest, "limit"},
		{"GET", "/sales/phone/orders?cursor=x", ``, api.CodeInvalidRequest, "cursor"},
		{"GET", "/orders/nothing", ``, api.CodeNotFound, ""},
		{"GET", "/audit?sale=nothing", ``, api.CodeNotFound, ""},
		{"GET", "/nothing", ``, api.CodeNotFound, ""},
		{"DELETE", "/sales/phone", ``, api.CodeMethodNotAllowed, ""},
	} {
		g := s.Admin(one.method, "/admin/v1"+one.path, one.body)
		require.Equal(t, string(one.code), g.Text("code"), "%s %s %s: %s", one.method, one.path, one.body, g.Raw)
		var fields []string
		if errs, ok := g.Body["errors"].([]any); ok {
			for _, e := range errs {
				fields = append(fields, e.(map[string]any)["field"].(string))
			}
		}
		require.Equal(t, one.field, strings.Join(fields, " "), "%s %s: %s", one.path, one.body, g.Raw)
	}
	require.EqualValues(t, 3, s.View("phone").Stock)
	s.Clean()
}

func TestAdminSeesOrdersOfAllUsers(t *testing.T) {
	t.Parallel()
	s := newWorld(t)
	s.Sell("phone", 10)
	ids := map[string]string{}
	for _, user := range []string{"ann", "bob", "cem"} {
		path := s.Place(user, "phone")
		ids[path[strings.LastIndex(path, "/")+1:]] = user
	}
	for id, user := range ids {
		g := s.Admin(http.MethodGet, "/admin/v1/orders/"+id, "")
		require.Equal(t, user, g.Text("user"), "in line")
		require.Equal(t, "queued", g.Text("status"))
	}
	s.Work()
	require.Eventually(t, func() bool { return !s.View("phone").InFlight() }, stack.Patience, 10*time.Millisecond)
	query, seen := "?limit=2", map[string]string{}
	for range 2 {
		g := s.Admin(http.MethodGet, "/admin/v1/sales/phone/orders"+query, "")
		for _, one := range g.Body["orders"].([]any) {
			o := one.(map[string]any)
			seen[o["order_id"].(string)] = o["user"].(string)
			require.Equal(t, "confirmed", o["status"])
			require.EqualValues(t, 9900, o["price_cents"])
		}
		query = "?limit=2&cursor=" + g.Text("next_cursor")
	}
	require.Equal(t, ids, seen)
	for id, user := range ids {
		require.Equal(t, user, s.Admin(http.MethodGet, "/admin/v1/orders/"+id, "").Text("user"))
	}
}

func TestAdminSaysWhichStoreIsAway(t *testing.T) {
	t.Parallel()
	s := newWorld(t, stack.Quiet)
	s.Sell("phone", 10)
	require.NoError(t, s.DB.Close())
	for _, path := range []string{"/sales", "/sales/phone", "/sales/phone/orders", "/orders/" + stack.NewUUID()} {
		g := s.Refused(api.CodeUnavailable, s.Admin(http.MethodGet, "/admin/v1"+path, ""))
		require.Contains(t, g.Text("detail"), "database", path)
	}
	require.Len(t, s.Admin(http.MethodGet, "/admin/v1/queue", "").Body["lines"], 1)
}

// Whoever asks for a verdict gets one, also when neither store answers.
func TestAuditAnswersWhateverIsAway(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	proxy := testkit.NewProxy(t, server.Addr())
	s := newWorld(t, func(c *stack.Setup) { c.Redis, c.Direct, c.Still = proxy.Addr(), server.Addr(), true })
	s.Sell("phone", 5)
	proxy.Cut()
	unknown := func(path string, sales int) {
		t.Helper()
		g := s.Admin(http.MethodGet, path, "")
		require.Equal(t, http.StatusServiceUnavailable, g.Status, g.Raw)
		require.Equal(t, string(api.CodeUnavailable), g.Text("code"))
		require.Positive(t, g.RetryAfter())
		require.Equal(t, "unknown", g.Text("verdict"))
		require.Contains(t, g.Raw, `"clean":null`)
		require.Contains(t, g.Raw, `"problems":["`)
		require.Len(t, g.Body["sales"], sales)
	}
	unknown("/admin/v1/audit", 1)
	require.NoError(t, s.DB.Close())
	unknown("/admin/v1/audit", 0)
	unknown("/admin/v1/audit?sale=phone", 1)
}
