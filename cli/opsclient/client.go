// Package opsclient talks to the operations listener of a running system, or to its listener for other systems.
package opsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"sluice/api"
)

const (
	timeout = 30 * time.Second // for one request and its answer
	// MaxAnswer bounds an answer, in bytes.
	MaxAnswer = 16 << 20
)

// Listener is which of a system's listeners is meant.
type Listener struct {
	Name string // in errors
	Root string // of its paths
	Flag string // that says where it is
}

// Operations returns the operations listener.
func Operations() Listener { return Listener{"operations listener", "/admin/v1", "--ops"} }

// Work returns the listener for the shop's other systems.
func Work() Listener { return Listener{"work listener", "/work/v1", "--work"} }

// Params is what New needs to reach the listener.
type Params struct {
	Of    Listener               // the zero value: Operations
	Base  string                 // URL without a slash at its end
	Token func() (string, error) // returns an administrator's token for each request
	Hint  string                 // what to do when the token is refused
	Trust *tls.Config            // nil: the system's certificates
}

// Client sends requests as an administrator. Requests and answers are bounded in time and size.
type Client struct {
	params Params
	http   *http.Client
}

// New returns a client; Close it.
func New(p Params) *Client {
	if p.Of == (Listener{}) {
		p.Of = Operations()
	}
	return &Client{params: p, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: p.Trust,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
		// A redirect could send the administrator's token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends idle connections.
func (o *Client) Close() { o.http.CloseIdleConnections() }

// Get requests path, which may have a query, and returns the answer's JSON.
func (o *Client) Get(ctx context.Context, path string) ([]byte, error) {
	return o.Call(ctx, http.MethodGet, path, nil)
}

// Call sends body as JSON and returns the answer's JSON. A refusal is an Error.
func (o *Client) Call(ctx context.Context, method, path string, body any) ([]byte, error) {
	return o.Send(ctx, Request{Method: method, Path: path, Body: body})
}

// Request is one request.
type Request struct {
	Method, Path string
	IfMatch      string // ETag of the version on which the change depends; empty: no condition
	Key          string // Idempotency-Key; empty: none
	Body         any    // sent as JSON; nil: none
}

func (r Request) headers() map[string]string {
	headers := map[string]string{"Accept": "application/json"}
	if r.Body != nil {
		headers["Content-Type"] = "application/json"
	}
	if r.IfMatch != "" {
		headers["If-Match"] = r.IfMatch
	}
	if r.Key != "" {
		headers["Idempotency-Key"] = r.Key
	}
	return headers
}

// Send sends a request and returns the answer's JSON, or nil for an empty answer. A refusal is an Error.
func (o *Client) Send(ctx context.Context, r Request) ([]byte, error) {
	var sent io.Reader
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	token, err := o.params.Token()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, o.params.Base+o.params.Of.Root+r.Path, sent)
	if err != nil {
		return nil, o.Wrap(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for name, value := range r.headers() {
		req.Header.Set(name, value)
	}
	resp, err := o.http.Do(req)
	if err != nil {
		return nil, o.unansweredError(r.Method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return nil, o.unansweredError(r.Method, err)
	case len(text) > MaxAnswer:
		return nil, o.Wrap(fmt.Errorf("the answer to %s %s is longer than %d bytes", r.Method, r.Path, MaxAnswer))
	case resp.StatusCode/100 != 2:
		return nil, o.refusal(resp, text)
	case resp.StatusCode == http.StatusNoContent:
		return nil, nil
	case !json.Valid(text):
		return nil, o.Wrap(
			fmt.Errorf("answered with something else than JSON: is it the %s? set %s", o.params.Of.Name,
				o.params.Of.Flag))
	}
	return text, nil
}

// ErrMaybeDone marks a change that was sent and got no answer.
var ErrMaybeDone = errors.New("it may have been done all the same")

// unansweredError says why there is no answer. For a change that was sent, it wraps ErrMaybeDone.
func (o *Client) unansweredError(method string, err error) error {
	why := o.unreachableError(err)
	if dial, ok := errors.AsType[*net.OpError](err); method == http.MethodGet || ok && dial.Op == "dial" {
		return why
	}
	return fmt.Errorf("%w; %w", why, ErrMaybeDone)
}

// Wrap adds the listener's address to an error.
func (o *Client) Wrap(err error) error {
	return fmt.Errorf("%s %s: %w", o.params.Of.Name, o.params.Base, err)
}

// unreachableError says in few words why there is no answer.
func (o *Client) unreachableError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return o.Wrap(fmt.Errorf("no answer in time: is sluice running? set %s", o.params.Of.Flag))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		reason := op.Err
		for inner := errors.Unwrap(reason); inner != nil; inner = errors.Unwrap(reason) {
			reason = inner
		}
		return o.Wrap(fmt.Errorf("%w: is sluice running? set %s", reason, o.params.Of.Flag))
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return o.Wrap(err)
}

// Error is a refusal: a problem document of the operations listener.
type Error struct {
	Code      api.Code         `json:"code"`
	Detail    string           `json:"detail"`
	RequestID string           `json:"request_id"`
	Errors    []api.FieldError `json:"errors"`
	Body      []byte           `json:"-"` // the whole answer
}

// Error returns the problem's title, its detail and the fields at fault.
func (e Error) Error() string {
	text := string(e.Code) + ": " + e.Detail
	if len(e.Errors) > 0 {
		fields := make([]string, len(e.Errors))
		for i, f := range e.Errors {
			fields[i] = f.Field + ": " + f.Detail
		}
		text += " (" + strings.Join(fields, "; ") + ")"
	}
	if e.Code == api.CodeInternal && e.RequestID != "" {
		text += " (request_id " + e.RequestID + ")"
	}
	return Printable(text)
}

func (o *Client) refusal(resp *http.Response, text []byte) error {
	problem := Error{Body: text}
	if err := json.Unmarshal(text, &problem); err != nil || problem.Code == "" {
		return o.Wrap(fmt.Errorf("answered %s: is it the %s? set %s", Printable(resp.Status), o.params.Of.Name,
			o.params.Of.Flag))
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return o.Wrap(fmt.Errorf("%w: %s", problem, o.params.Hint))
	}
	return problem
}

// Printable replaces line breaks and control characters in text from another machine, so that it cannot control the
// terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
