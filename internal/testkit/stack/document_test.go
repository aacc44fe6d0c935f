package stack

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/api"
)

// The checking transport is itself a test: it must see what is wrong.
func TestTheCheckSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := checked{doc: StrictDocument(t, api.OpenAPI())}
	sale :=
		`{"id":"a","title":"t","sku":"s","price_cents":1,"currency":"CNY","stock_total":1,"remaining":1,` +
			`"per_user_limit":1,` +
			`"starts_at":"2026-11-11T00:00:00.000Z","ends_at":"2026-11-11T00:00:00.000Z","state":"open",` +
			`"server_time":"2026-11-11T00:00:00.000Z"`
	notFound :=
		`{"type":"urn:sluice:problem:not_found","title":"Nothing is here","status":404,"detail":"d",` +
			`"code":"not_found","request_id":"r"`
	for name, one := range map[string]struct {
		path, kind, body string
		status           int
		ok               bool
	}{
		"right":              {"/v1/sales/a", "application/json; charset=utf-8", sale + "}", 200, true},
		"a member too many":  {"/v1/sales/a", "application/json; charset=utf-8", sale + `,"secret":1}`, 200, false},
		"a member too few":   {"/v1/sales/a", "application/json; charset=utf-8", `{"id":"a"}`, 200, false},
		"no such status":     {"/v1/sales/a", "application/json; charset=utf-8", sale + "}", 201, false},
		"right problem":      {"/v1/sales/a", "application/problem+json", notFound + "}", 404, true},
		"problem, too much":  {"/v1/sales/a", "application/problem+json", notFound + `,"x":1}`, 404, false},
		"not a problem type": {"/v1/sales/a", "application/json", notFound + "}", 404, false},
		"wrong status":       {"/v1/sales/a", "application/problem+json", notFound + "}", 503, false},
		"unknown route":      {"/v2/sales", "application/json", "{}", 200, false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+one.path, nil)
		require.NoError(t, err)
		resp := &http.Response{StatusCode: one.status, Header: http.Header{"Content-Type": {one.kind},
			"X-Request-Id": {"r"}, "Cache-Control": {"no-store"}}}
		err = c.check(r, nil, resp, []byte(one.body), false)
		require.Equal(t, one.ok, err == nil, "%s: %v", name, err)
	}
}
