package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
)

// listeners are the examples of docs/callbacks.md, by language.
func listeners(t *testing.T) map[string][]string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "listener")
	// #nosec G204 -- our own example
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary,
		"../examples/listener/go").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return map[string][]string{"go": {binary}, "python": {"python3", "../examples/listener/listener.py"},
		"php": {"php", "../examples/listener/listener.php"}}
}

// listening is a listener that runs, and what it has handled.
type listening struct {
	cmd *exec.Cmd

	mu      sync.Mutex
	handled map[string]int // by id
	read    chan struct{}  // closed at the end of its output
}

func listen(t *testing.T, command []string, base, subscription string) *listening {
	t.Helper()
	l := &listening{handled: map[string]int{}, read: make(chan struct{})}
	l.cmd = exec.Command(command[0], command[1:]...) // #nosec G204 -- one of our examples
	l.cmd.Env = append(os.Environ(), "SLUICE_WORK="+base, "SLUICE_SUBSCRIPTION="+subscription,
		"SLUICE_TOKEN="+systemsToken(t, auth.Rights{Subscribe: []string{subscription}}))
	l.cmd.Stderr = shop.Log{T: t}
	out, err := l.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, l.cmd.Start())
	go func() {
		defer close(l.read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == "handled" {
				l.mu.Lock()
				l.handled[words[1]]++
				l.mu.Unlock()
			}
		}
	}()
	t.Cleanup(l.kill)
	return l
}

// kill ends the listener as a loss of power would.
func (l *listening) kill() {
	_ = l.cmd.Process.Kill()
	<-l.read
	_ = l.cmd.Wait()
}

func (l *listening) ids() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.handled)
}

// heldAcks passes everything on to a listener but acknowledgements, which it keeps for ever. It tells of each.
func heldAcks(t *testing.T, base string) (string, <-chan int) {
	t.Helper()
	target, err := url.Parse(base)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	held := make(chan int, 10)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/ack") {
			proxy.ServeHTTP(w, r)
			return
		}
		var body struct{ Leases []string }
		raw, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(raw, &body)
		held <- len(body.Leases)
		<-r.Context().Done()
	}))
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	return front.URL, held
}

// Each example handles and acknowledges all messages of its subscription. Those that one had handled when it was
// killed, and not acknowledged, go to another when their lease ends.
func TestTheListenersOfTheExamples(t *testing.T) {
	t.Parallel()
	const messages = 50
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Work.Addr = "127.0.0.1:0"
	app := startApp(t, cfg, AllRoles())
	commands := listeners(t)
	for name := range commands {
		readableTopic(t, app, name, time.Minute)
	}
	readableTopic(t, app, "shared", 2*time.Second)
	var list []string
	for i := range messages {
		list = append(list, fmt.Sprintf(`{"id":"m%d","body":{"n":%d}}`, i, i))
	}
	base := "http://" + app.WorkAddr()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status, text := asSystem(t, client, systemsToken(t, auth.Rights{Publish: []string{"points"}}), http.MethodPost,
		base+"/work/v1/topics/points/messages", `{"messages":[`+strings.Join(list, ",")+`]}`)
	require.Equal(t, http.StatusOK, status, text)

	delivered := func(subscription string) (n int, again int) {
		sub, err := app.topics.Subscription(t.Context(), subscription)
		require.NoError(t, err)
		for i := range messages {
			m, err := app.messages.Show(t.Context(), sub, fmt.Sprintf("m%d", i))
			require.NoError(t, err)
			if m.State == "delivered" {
				n++
			}
			if m.Attempts > 1 {
				again++
			}
		}
		return n, again
	}
	until := func(subscription string) (again int) {
		require.Eventually(t, func() bool {
			n, more := delivered(subscription)
			again = more
			return n == messages
		}, time.Minute, 50*time.Millisecond, subscription)
		return again
	}
	running := map[string]*listening{}
	for name, command := range commands {
		running[name] = listen(t, command, base, name)
	}
	for name, l := range running {
		require.Zero(t, until(name), "%s handled some twice", name)
		require.Eventually(t, func() bool { return l.ids() == messages }, time.Minute, time.Millisecond, name)
	}

	front, held := heldAcks(t, base)
	victim := listen(t, commands["python"], front, "shared")
	lost := <-held
	victim.kill()
	require.Equal(t, lost, victim.ids(), "handled, and not acknowledged")
	heir := listen(t, commands["go"], base, "shared")
	require.GreaterOrEqual(t, until("shared"), lost, "these came again")
	require.Eventually(t, func() bool { return heir.ids() == messages }, time.Minute, time.Millisecond)
}
