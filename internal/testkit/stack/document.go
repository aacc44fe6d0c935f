package stack

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

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/require"

	"sluice/api"
)

// checked is a transport that holds answers against the api.OpenAPI document. One that breaks it
// becomes an error, and so does an accepted request that it does not describe.
type checked struct {
	doc  *openapi3.T
	base http.RoundTripper
}

// CheckedClient makes a client that holds every answer against a document.
func CheckedClient(t testing.TB, document []byte) *http.Client {
	t.Helper()
	base := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{
		Transport:     checked{StrictDocument(t, document), base},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// StrictDocument reads a document with every object closed: a member that it
// does not name is an error.
func StrictDocument(t testing.TB, document []byte) *openapi3.T {
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
