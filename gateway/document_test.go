package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/api"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// checked is a transport that turns every answer that breaks the api.OpenAPI
// document into an error, and every accepted request that it does not describe.
type checked struct {
	doc  *openapi3.T
	base http.RoundTripper
}

func (s *stack) checkedClient(document []byte) *http.Client {
	s.t.Helper()
	base := &http.Transport{MaxIdleConnsPerHost: 64}
	s.t.Cleanup(base.CloseIdleConnections)
	return &http.Client{
		Transport:     checked{strictDocument(s.t, document), base},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// strictDocument is the document with every object closed: a member that it
// does not name is an error.
func strictDocument(t testing.TB, document []byte) *openapi3.T {
	t.Helper()
	read := sync.OnceValues(func() (*openapi3.T, error) { return closed(document) })
	known, _ := strictDocuments.LoadOrStore(string(document), read)
	doc, err := known.(func() (*openapi3.T, error))()
	require.NoError(t, err)
	return doc
}

// strictDocuments are read once, for reading takes longer than most tests. Nobody changes them.
var strictDocuments sync.Map

func closed(document []byte) (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	no := false
	for _, schema := range doc.Components.Schemas {
		if len(schema.Value.Properties) > 0 {
			schema.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
		}
	}
	return doc, nil
}

func (c checked) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := c.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	stream := resp.Header.Get("Content-Type") == "text/event-stream"
	var body []byte
	if !stream {
		body, err = io.ReadAll(resp.Body)
		err = errors.Join(err, resp.Body.Close())
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	if err == nil {
		err = c.check(r, sent, resp, body, stream)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s answered %d %.300s: %w", r.Method, r.URL, resp.StatusCode, body, err)
	}
	return resp, nil
}

func (c checked) check(r *http.Request, sent []byte, resp *http.Response, body []byte, stream bool) error {
	if err := checkHeaders(resp, body); err != nil {
		return err
	}
	route, params := c.find(r)
	options := &openapi3filter.Options{IncludeResponseStatus: true,
		AuthenticationFunc:  openapi3filter.NoopAuthenticationFunc,
		ExcludeResponseBody: stream, SkipSettingDefaults: true}
	if route == nil {
		// What is not in the document must be answered as not being there.
		name := map[int]string{http.StatusNotFound: "NotFound",
			http.StatusMethodNotAllowed: "MethodNotAllowed"}[resp.StatusCode]
		if name == "" {
			return errors.New("the document has no such operation")
		}
		responses := openapi3.NewResponses(openapi3.WithStatus(resp.StatusCode, c.doc.Components.Responses[name]))
		route = &routers.Route{Spec: c.doc, Operation: &openapi3.Operation{Responses: responses}}
	}
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(sent))
	input := &openapi3filter.RequestValidationInput{Request: again, PathParams: params, Route: route, Options: options}
	if resp.StatusCode < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			return fmt.Errorf("the accepted request: %w", err)
		}
	}
	return openapi3filter.ValidateResponse(r.Context(),
		&openapi3filter.ResponseValidationInput{RequestValidationInput: input,
			Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: options})
}

// checkHeaders holds for every answer what the document says in words.
func checkHeaders(resp *http.Response, body []byte) error {
	if resp.Header.Get("X-Request-ID") == "" {
		return errors.New("no X-Request-ID")
	}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		return nil // it has no body
	}
	if resp.Header.Get("Content-Type") != "application/problem+json" {
		if resp.StatusCode >= http.StatusBadRequest && strings.HasPrefix(resp.Header.Get("Content-Type"),
			"application/json") {
			return errors.New("a refusal that is no problem document")
		}
		return nil
	}
	var p api.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	want := api.NewProblem(p.Code, "")
	retry := resp.Header.Get("Retry-After")
	seconds, err := strconv.Atoi(retry)
	switch {
	case p.Code != want.Code, p.Status != resp.StatusCode, p.Status != want.Status, p.Type != want.Type,
		p.Title != want.Title, p.Detail == "":
		return errors.New("the problem does not fit its code")
	case p.RequestID != resp.Header.Get("X-Request-ID"):
		return errors.New("request_id is not X-Request-ID")
	case resp.Header.Get("Cache-Control") != "no-store":
		return errors.New("a problem may be cached")
	case p.Code.ComesBack() && (err != nil || seconds < 1), !p.Code.ComesBack() && retry != "":
		return fmt.Errorf("Retry-After %q", retry)
	case (p.Code == api.CodeUnauthorized) != (resp.Header.Get("WWW-Authenticate") != ""):
		return errors.New("WWW-Authenticate belongs to 401 and only there")
	case (p.Code == api.CodeRateLimited) != (resp.Header.Get("RateLimit") != "" &&
		resp.Header.Get("RateLimit-Policy") != ""):
		return errors.New("RateLimit belongs to 429 and only there")
	case (p.Code == api.CodeInvalidRequest) && len(p.Errors) == 0:
		return errors.New("invalid_request names no member")
	case p.Code == api.CodeMethodNotAllowed && resp.Header.Get("Allow") == "":
		return errors.New("no Allow")
	}
	return nil
}

// find returns the operation of a request, nil if the document has none.
func (c checked) find(r *http.Request) (*routers.Route, map[string]string) {
	asked := strings.Split(r.URL.Path, "/")
	for _, path := range slices.Sorted(func(yield func(string) bool) {
		for path := range c.doc.Paths.Map() {
			if !yield(path) {
				return
			}
		}
	}) {
		params, ok := matchPath(strings.Split(path, "/"), asked)
		item := c.doc.Paths.Value(path)
		if !ok || item.GetOperation(r.Method) == nil {
			continue
		}
		return &routers.Route{Spec: c.doc, Path: path, PathItem: item, Method: r.Method,
			Operation: item.GetOperation(r.Method)}, params
	}
	return nil, nil
}

func matchPath(template, asked []string) (map[string]string, bool) {
	if len(template) != len(asked) {
		return nil, false
	}
	params := map[string]string{}
	for i, part := range template {
		if name, ok := strings.CutPrefix(part, "{"); ok && asked[i] != "" {
			params[strings.TrimSuffix(name, "}")] = asked[i]
		} else if part != asked[i] {
			return nil, false
		}
	}
	return params, true
}

// Neither listener serves a route that its document does not describe, nor the
// other way round.
func TestDocumentsAndRoutesAreEqual(t *testing.T) {
	t.Parallel()
	s := newStack(t, func(c *setup) { c.still = true })
	for name, one := range map[string]struct {
		document []byte
		engine   *gin.Engine
	}{"public": {api.OpenAPI(), s.gateway.Handler()}, "operations": {api.OpenAPIOps(), s.opsEngine}} {
		var routes, described []string
		for _, r := range one.engine.Routes() {
			parts := strings.Split(r.Path, "/")
			for i, part := range parts {
				if param, ok := strings.CutPrefix(part, ":"); ok {
					parts[i] = "{" + param + "}"
				}
			}
			routes = append(routes, r.Method+" "+strings.Join(parts, "/"))
		}
		doc := strictDocument(t, one.document)
		ids := map[string]bool{}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				described = append(described, method+" "+path)
				require.False(t, ids[operation.OperationID], "%s: %s twice", name, operation.OperationID)
				ids[operation.OperationID] = true
			}
		}
		require.ElementsMatch(t, described, routes, name)
	}
	public, ops := s.get("", "/openapi.json"), s.opsAs("", http.MethodGet, "/openapi.json", "")
	require.JSONEq(t, string(api.OpenAPI()), public.raw)
	require.JSONEq(t, string(api.OpenAPIOps()), ops.raw)
}

// The checking transport is itself a test: it must see what is wrong.
func TestTheCheckSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := checked{doc: strictDocument(t, api.OpenAPI())}
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
