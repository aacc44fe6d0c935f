package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/providers"
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

// TestATableOfTextsIsSentUntilDelivered plays the table of an SMS desk. The provider is away for a while, and so is the
// process: each text goes out all the same, once it can.
func TestATableOfTextsIsSentUntilDelivered(t *testing.T) {
	t.Parallel()
	const texts, refused = 20, 10
	var well atomic.Bool
	var calls atomic.Int64
	provider := providers.NewReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1); !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	quick := func(c *configs.Config) {
		c.Notify.SMS.Failures, c.Notify.SMS.Pause = 2, 20*time.Millisecond
	}
	app, _, _, ask := ownApp(t, provider, quick)
	waitForTopics(t, app)
	_, err := app.topics.Update(t.Context(), "sms", delay.Change{RetryUnitMS: new(int64(20))}, "ann", "")
	require.NoError(t, err)
	var list []string
	for i := range texts {
		list = append(list, fmt.Sprintf(`{"id":"m%d","body":{"to":"138001380%02d","text":"Pickup %d"}}`, i, i, i))
	}
	status, text := ask(http.MethodPost, "sms/messages", `{"messages":[`+strings.Join(list, ",")+`]}`)
	require.Equal(t, http.StatusOK, status, text)
	require.Eventually(t, func() bool { return calls.Load() >= refused }, time.Minute, time.Millisecond)
	require.NoError(t, stopApp(app))
	before := len(provider.Calls())
	well.Store(true)
	next := startApp(t, app.cfg, AllRoles())
	require.Eventually(t, func() bool {
		page := asOperator(t, next, "/subscriptions/sms.default/messages?state=complete&limit=100")
		return strings.Count(page, `"state":"delivered"`) == texts
	}, time.Minute, 20*time.Millisecond)
	sent := map[string]int{}
	for _, call := range provider.Calls()[before:] {
		sent[call.Body]++
	}
	require.Len(t, sent, texts)
	require.Contains(t, asOperator(t, next, "/subscriptions/sms.default/messages?state=failed"), `"messages":[]`)
}

// TestAMailPoolPutsBackWhatFailed plays a pool of mailers on a list. A mail that the server puts off goes back and is
// sent later, without holding up the others; none is sent twice.
func TestAMailPoolPutsBackWhatFailed(t *testing.T) {
	t.Parallel()
	const mails = 30
	app, box, _, ask := ownApp(t, providers.NewReceiver(t, providers.AcceptAll), func(*configs.Config) {})
	waitForTopics(t, app)
	_, err := app.topics.Update(t.Context(), "email", delay.Change{RetryUnitMS: new(int64(20))}, "ann", "")
	require.NoError(t, err)
	var mu sync.Mutex
	refusals := map[string]bool{}
	box.Answer(func(step, line string) string {
		mu.Lock()
		defer mu.Unlock()
		if step != "rcpt" || !strings.Contains(line, "<busy") || refusals[line] {
			return ""
		}
		refusals[line] = true
		return "451 4.2.1 try again later"
	})
	var list []string
	for i := range mails {
		name := "ann"
		if i%3 == 0 {
			name = "busy"
		}
		list = append(list, fmt.Sprintf(
			`{"id":"m%d","body":{"to":"%s%d@shopper.example","subject":"Sale","text":"It begins."}}`, i, name, i))
	}
	status, text := ask(http.MethodPost, "email/messages", `{"messages":[`+strings.Join(list, ",")+`]}`)
	require.Equal(t, http.StatusOK, status, text)
	waitForMessages(t, ask, "email", delay.Delivered, mails)
	require.Len(t, refusals, mails/3)
	require.Len(t, box.Received(), mails, "none was sent twice")
	_, shown := ask(http.MethodGet, "email/messages/m0", "")
	require.Contains(t, shown, `"attempts":2`)
	_, shown = ask(http.MethodGet, "email/messages/m1", "")
	require.Contains(t, shown, `"attempts":1`)
}

// jobsIn returns the ids of a queue's jobs in a state.
func jobsIn(t *testing.T, app *App, queue, state string) (ids []string) {
	t.Helper()
	var page struct{ Messages []struct{ ID string } }
	text := asOperator(t, app, "/subscriptions/"+queue+".default/messages?state="+state)
	require.NoError(t, json.Unmarshal([]byte(text), &page), text)
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// TestJobsOfTwoQueuesAndWorkersThatComeLive plays queues of background jobs. Each job is looked up by its id in four
// states: it waits, runs, has failed, is complete. Workers for one queue or the other come while all runs.
func TestJobsOfTwoQueuesAndWorkersThatComeLive(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Work.Addr, cfg.Delay.AllowPrivate = "127.0.0.1:0", true
	gateway := startApp(t, cfg, Roles{Gateway: true})
	release := make(chan struct{})
	images := providers.NewReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	letters := providers.NewReceiver(t, providers.Status(http.StatusGone))
	for queue, url := range map[string]string{"images": images.URL, "letters": letters.URL} {
		_, err := gateway.topics.Create(t.Context(), queue, delay.Change{URL: &url, TimeoutMS: new(int64(30_000))},
			"ann", "")
		require.NoError(t, err)
		askSystem(t, gateway, auth.Rights{Publish: []string{queue}}, "/topics/"+queue+"/messages",
			`{"messages":[{"id":"`+queue+`-1","body":{}}]}`)
	}
	in := func(queue, state string) func() bool {
		return func() bool { return slices.Equal(jobsIn(t, gateway, queue, state), []string{queue + "-1"}) }
	}
	until := func(reached func() bool, what string) {
		t.Helper()
		require.Eventually(t, reached, time.Minute, 10*time.Millisecond, what)
	}
	require.True(t, in("images", "waiting")())
	require.True(t, in("letters", "waiting")())
	worker := func(queue string) {
		own := cfg
		own.Delay.Topics = []string{queue}
		startApp(t, own, Roles{Notifier: true})
	}
	worker("images")
	until(in("images", "running"), "it runs as soon as a worker has come")
	require.True(t, in("letters", "waiting")(), "it is not that worker's")
	worker("letters")
	until(in("letters", "failed"), "its receiver wants no more of it")
	close(release)
	until(in("images", "complete"), "it is done")
	require.Contains(t, asOperator(t, gateway, "/topics/images/messages/images-1"), `"state":"delivered"`)
	require.Len(t, images.Calls(), 1)
	require.Len(t, letters.Calls(), 1)
}
