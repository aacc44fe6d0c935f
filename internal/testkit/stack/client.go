package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/api"
	"sluice/gateway/auth"
)

// Answer is an answer read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   map[string]any
	Raw    string
}

// Text returns a member of the body that is text, "" if there is none.
func (a Answer) Text(member string) string { text, _ := a.Body[member].(string); return text }

// Num returns a member of the body that is a number, 0 if there is none.
func (a Answer) Num(member string) int64 { n, _ := a.Body[member].(float64); return int64(n) }

// RetryAfter returns the seconds after which the client shall come back, 0 if nothing says so.
func (a Answer) RetryAfter() int { n, _ := strconv.Atoi(a.Header.Get("Retry-After")); return n }

// request is what a test sends; header are names and values in turn.
type request struct {
	method, url, token, body string
	header                   []string
}

// send sends a request and reads the answer; it may be called from any goroutine.
func (q request) send(ctx context.Context, client *http.Client) (Answer, error) {
	var content io.Reader
	if q.body != "" {
		content = strings.NewReader(q.body)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.url, content)
	if err != nil {
		return Answer{}, err
	}
	if q.token != "" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(q.header); i += 2 {
		r.Header.Set(q.header[i], q.header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	a := Answer{Status: resp.StatusCode, Header: resp.Header, Raw: string(raw)}
	if err == nil && bytes.HasPrefix(raw, []byte("{")) {
		err = json.Unmarshal(raw, &a.Body)
	}
	return a, err
}

// Token signs a token for a user, who may be an administrator.
func (s *Stack) Token(user string, admin bool) string {
	s.T.Helper()
	token, err := auth.Mint(Auth(), user, admin, time.Hour, time.Now())
	require.NoError(s.T, err)
	return token
}

// TryOrder asks for an order with a token. It may be called from any goroutine.
func (s *Stack) TryOrder(ctx context.Context, token, sale, body string, header ...string) (Answer, error) {
	return request{method: http.MethodPost, url: "http://" + s.Addr + "/v1/sales/" + sale + "/orders", token: token,
		body: body, header: header}.send(ctx, s.public)
}

// TryGet reads a path of the public listener with a token. It may be called from any goroutine.
func (s *Stack) TryGet(ctx context.Context, token, path string) (Answer, error) {
	return request{method: http.MethodGet, url: "http://" + s.Addr + path, token: token}.send(ctx, s.public)
}

// Do asks the public listener as a user; "" is nobody.
func (s *Stack) Do(user, method, path, body string, header ...string) Answer {
	s.T.Helper()
	token := ""
	if user != "" {
		token = s.Token(user, false)
	}
	a, err := request{method: method, url: "http://" + s.Addr + path, token: token, body: body, header: header}.
		send(s.T.Context(), s.public)
	require.NoError(s.T, err)
	return a
}

// Order asks for an order as a user.
func (s *Stack) Order(user, sale, body string, header ...string) Answer {
	s.T.Helper()
	return s.Do(user, http.MethodPost, "/v1/sales/"+sale+"/orders", body, header...)
}

// Place orders one unit, which must succeed, and returns the order's path.
func (s *Stack) Place(user, sale string, header ...string) string {
	s.T.Helper()
	a := s.Order(user, sale, "", header...)
	require.Equal(s.T, http.StatusAccepted, a.Status, a.Raw)
	return a.Header.Get("Location")
}

// Get reads a path of the public listener as a user.
func (s *Stack) Get(user, path string, header ...string) Answer {
	s.T.Helper()
	return s.Do(user, http.MethodGet, path, "", header...)
}

// Refused requires a problem document of this code.
func (s *Stack) Refused(code api.Code, a Answer) Answer {
	s.T.Helper()
	require.Equal(s.T, string(code), a.Text("code"), a.Raw)
	require.Equal(s.T, api.NewProblem(code, "").Status, a.Status, a.Raw)
	return a
}

// Until waits for the order to have the status and returns it.
func (s *Stack) Until(user, path, status string) Answer {
	s.T.Helper()
	var a Answer
	require.Eventually(s.T, func() bool {
		a = s.Get(user, path)
		return a.Text("status") == status
	}, Patience, 10*time.Millisecond, "never became %s", status)
	return a
}

// Admin asks the operations listener as an administrator.
func (s *Stack) Admin(method, path, body string, header ...string) Answer {
	s.T.Helper()
	return s.OpsAs(s.Token("root", true), method, path, body, header...)
}

// OpsAs asks the operations listener with a token; "" is none.
func (s *Stack) OpsAs(token, method, path, body string, header ...string) Answer {
	s.T.Helper()
	a, err := request{method: method, url: "http://" + s.OpsAddr + path, token: token, body: body, header: header}.
		send(s.T.Context(), s.ops)
	require.NoError(s.T, err)
	return a
}
