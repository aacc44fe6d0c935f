package shop

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/notify/webhook"
)

// HookSecret signs the calls that an Endpoint takes.
const HookSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" // #nosec G101 -- of tests

// Endpoint is the shop's receiver of webhooks and alerts: it verifies each call and answers those of /hook with Status.
type Endpoint struct {
	*httptest.Server
	Status atomic.Int64
	mu     sync.Mutex
	got    map[string][]string // path: bodies
}

// NewEndpoint starts a receiver; it ends with the test.
func NewEndpoint(t *testing.T) *Endpoint {
	t.Helper()
	e := &Endpoint{got: map[string][]string{}}
	verifier, err := webhook.NewVerifier(time.Now, HookSecret)
	require.NoError(t, err)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || verifier.Verify(r.Header, body) != nil {
			t.Errorf("a call that is not signed: %s", body)
		}
		e.mu.Lock()
		e.got[r.URL.Path] = append(e.got[r.URL.Path], string(body))
		e.mu.Unlock()
		if r.URL.Path == "/hook" {
			w.WriteHeader(int(e.Status.Load()))
		}
	}))
	t.Cleanup(e.Close)
	return e
}

// Bodies returns the bodies that a path has got, a line each.
func (e *Endpoint) Bodies(path string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.got[path], "\n")
}
