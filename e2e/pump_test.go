package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
)

// pumpSteps are the kill points of a pump, with how many lines it has written at the third, and how many come twice.
var pumpSteps = map[string]struct{ written, twice int }{"pump.received": {40, 0}, "pump.written": {60, 20},
	"pump.acked": {60, 0}}

// pumped is a pull subscription with messages, and a pump that writes them to a file.
type pumped struct {
	shell
	file string
	args []string
}

func newPumped(t *testing.T, messages int) *pumped {
	t.Helper()
	port, err := servers.FreePort()
	require.NoError(t, err)
	work := fmt.Sprintf("127.0.0.1:%d", port)
	s := openStores(t, testkit.NewDatabase(t, "sqlite"), nil)
	c := startCluster(t, s, system{tags: killPoints, layout: layout{allRoles}, logs: t.TempDir(),
		env: []string{"SLUICE_WORK__ADDR=" + work, "SLUICE_DELAY__LEASE=2s"}})
	_, ops := c.nodes[0].addresses()
	p := &pumped{file: filepath.Join(t.TempDir(), "log.ndjson"), shell: shell{t: t, path: c.nodes[0].binary,
		env: []string{"PATH=" + os.Getenv("PATH"), "SLUICE_AUTH__SECRET=" + secret, "SLUICE_OPS__ADDR=" + ops,
			"SLUICE_WORK__ADDR=" + work}}}
	p.args = []string{"subscription", "pump", "--out", p.file, "--batch", "20", "log"}
	p.ok("topic", "create", "--url", "", "points")
	p.ok("subscription", "create", "--topic", "points", "--lease", "5s", "log")
	b := &callbacks{t: t, cluster: c}
	list := make([]map[string]any, messages)
	for i := range list {
		list[i] = map[string]any{"id": fmt.Sprint("m", i), "body": map[string]int{"n": i}}
	}
	b.ask(http.MethodPost, "/topics/points/messages", map[string]any{"messages": list})
	return p
}

// lines counts the lines of each message. Every line must be whole.
func (p *pumped) lines() map[string]int {
	p.t.Helper()
	text, err := os.ReadFile(p.file)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(p.t, err)
	times := map[string]int{}
	for line := range bytes.Lines(text) {
		var m struct {
			ID   string
			Data struct{ N int }
		}
		require.NoError(p.t, json.Unmarshal(line, &m), "%s", line)
		require.Equal(p.t, fmt.Sprint("m", m.Data.N), m.ID)
		times[m.ID]++
	}
	return times
}

// TestNoMessageIsLostWhenAPumpIsKilled kills a pump at each step, before and after its acknowledgement too. The next
// one goes on, and every message is in the file.
func TestNoMessageIsLostWhenAPumpIsKilled(t *testing.T) {
	t.Parallel()
	const messages = 200
	for step, at := range pumpSteps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			p := newPumped(t, messages)
			armed := shell{t: t, path: p.path, env: append(p.env[:len(p.env):len(p.env)],
				"SLUICE_TEST_KILL="+step+":3")}
			died := armed.do(p.args...)
			require.Equal(t, -1, died.code, "killed: %s", died.err)
			require.Len(t, p.lines(), at.written, "what was acknowledged is there")

			next := exec.CommandContext(t.Context(), p.path, p.args...)
			next.Env = p.env
			var said bytes.Buffer
			next.Stderr = &said
			require.NoError(t, next.Start())
			require.Eventually(t, func() bool {
				return len(p.complete()) == messages
			}, delayPatience, 100*time.Millisecond, "not every message was acknowledged")
			require.NoError(t, next.Process.Signal(syscall.SIGTERM))
			require.NoError(t, next.Wait(), "SIGTERM is the good end: %s", &said)
			lines := p.lines()
			require.Len(t, lines, messages, "no message is missing")
			twice := 0
			for _, n := range lines {
				if n > 1 {
					twice++
				}
			}
			require.GreaterOrEqual(t, twice, at.twice, "more only where a slow machine outlives a lease")
		})
	}
}

// complete returns the messages that are acknowledged.
func (p *pumped) complete() []any {
	list, _ := p.object("subscription", "message", "list", "--state", "complete", "--limit", "1000",
		"log")["messages"].([]any)
	return list
}
