package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
)

// These tests use Sluice as the authors of its ancestors described theirs.

// askSystem sends a body to the work listener as a system with rights, and returns what it answers.
func askSystem(t *testing.T, app *App, rights auth.Rights, path, body string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status, text := asSystem(t, client, systemsToken(t, rights), http.MethodPost,
		"http://"+app.WorkAddr()+"/work/v1"+path, body)
	require.Equal(t, http.StatusOK, status, text)
	return text
}

// refuser is a receiver that refuses everything, and remembers when.
type refuser struct {
	*httptest.Server
	mu sync.Mutex
	at []time.Time
}

func newRefuser(t *testing.T) *refuser {
	r := &refuser{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		r.at = append(r.at, time.Now())
		r.mu.Unlock()
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *refuser) calls() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.at...)
}

// TestADelayQueueCallsBackAndMailsInTheEnd plays the delay queue: a callback is repeated after 1, 3 and 5 units, then
// its owner gets a mail. Its state and its next time can be looked up at any moment.
func TestADelayQueueCallsBackAndMailsInTheEnd(t *testing.T) {
	t.Parallel()
	const unit, delayed = 200 * time.Millisecond, 300 * time.Millisecond
	receiver := newRefuser(t)
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Work.Addr, cfg.Delay.AllowPrivate, cfg.Delay.Jitter = "127.0.0.1:0", true, 0
	box := newMailbox(t, &cfg)
	app := startApp(t, cfg, AllRoles())
	_, err := app.topics.Create(t.Context(), "remind", delay.Change{URL: &receiver.URL, Retries: new(3),
		RetryUnitMS: new(unit.Milliseconds()), Alert: new("ann@shop.example")}, "test", "")
	require.NoError(t, err)
	rights := auth.Rights{Publish: []string{"remind"}}
	added := time.Now()
	askSystem(t, app, rights, "/topics/remind/messages",
		fmt.Sprintf(`{"messages":[{"id":"rent","delay_ms":%d,"body":{"to":"ann"}}]}`, delayed.Milliseconds()))

	show := func() (m struct {
		State    string
		Attempts int
		DueAt    time.Time `json:"due_at"`
	}) {
		t.Helper()
		text := asOperator(t, app, "/topics/remind/messages/rent")
		require.NoError(t, json.Unmarshal([]byte(text), &m), text)
		return m
	}
	require.Equal(t, "pending", show().State)
	seen := map[int]time.Time{} // the next time, by attempts
	require.Eventually(t, func() bool {
		m := show()
		if m.State == "retrying" {
			seen[m.Attempts] = m.DueAt
		}
		return m.State == "dead"
	}, time.Minute, 5*time.Millisecond)
	calls := receiver.calls()
	require.Len(t, calls, 4)
	require.GreaterOrEqual(t, calls[0].Sub(added), delayed)
	for i, units := range []time.Duration{1, 3, 5} {
		require.GreaterOrEqual(t, calls[i+1].Sub(calls[i]), units*unit-time.Millisecond, "the wait before call %d", i+2)
		if next, looked := seen[i+1]; looked {
			require.GreaterOrEqual(t, calls[i+1], next.Add(-time.Millisecond), "as it was shown")
		}
	}
	require.NotEmpty(t, seen)
	_, text := box.to(t, "ann@shop.example")
	require.Contains(t, text, "delayed messages of topic remind")
}
