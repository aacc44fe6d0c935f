package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// operator changes the configuration of a running cluster in all three ways.
type operator struct {
	t       *testing.T
	cluster *cluster
	mount   *mount
	shell   shell
	version int64
}

type configVersion struct {
	Version int64          `json:"version"`
	Source  string         `json:"source"`
	Values  map[string]any `json:"values"`
}

// versions returns the newest versions, newest first.
func (o *operator) versions() []configVersion {
	o.t.Helper()
	var list struct {
		Versions []configVersion `json:"versions"`
	}
	a, err := o.cluster.admin(o.t.Context(), o.cluster.nodes[0], http.MethodGet, "/config/versions?limit=10", nil)
	require.NoError(o.t, err)
	require.NoError(o.t, json.Unmarshal(a.Raw, &list), "%s", a.Raw)
	return list.Versions
}

// made waits for the version of a change that sets key to value.
func (o *operator) made(key string, value int) configVersion {
	o.t.Helper()
	var made configVersion
	require.Eventually(o.t, func() bool {
		for _, v := range o.versions() { // the first that has it: what was set for a time may have ended since
			if v.Version > o.version && fmt.Sprint(v.Values[key]) == strconv.Itoa(value) {
				made = v
			}
		}
		return made.Version > 0
	}, 10*time.Second, 5*time.Millisecond, "no version with %s=%d", key, value)
	o.version = made.Version
	return made
}

// byAdmin asks one process; the others hear of it from the database.
func (o *operator) byAdmin(n int) {
	o.t.Helper()
	_, ops := o.cluster.nodes[n%len(o.cluster.nodes)].addresses()
	size := 1 + n%7
	args := []string{"config", "set", fmt.Sprintf("pool.size=%d", size), fmt.Sprintf("queue.batch=%d", 20+n*11),
		"--reason", "rush", "--ops", "http://" + ops}
	if n%2 == 0 && n < rushChanges/2 {
		args = append(args, "--for", "1s") // ends during the rush, with a version of its own
	}
	o.shell.ok(args...)
	require.Equal(o.t, "admin", o.made("queue.batch", 20+n*11).Source)
}

func (o *operator) fileWith(lineCap int) string {
	return fmt.Sprintf(
		"queue: {cap: %d, max_wait: 20s, min_cap: 200}\nlimits: {per_user_rps: %d, global_rps: %d, per_ip_rps: 5}\n",
		lineCap, 50+lineCap%10, 1000+lineCap)
}

// byMount swaps the folder of the mounted file, which all processes read.
func (o *operator) byMount(n int) {
	o.t.Helper()
	lineCap := 1000 + 10*n
	o.mount.write(o.fileWith(lineCap))
	require.Equal(o.t, "file", o.made("queue.cap", lineCap).Source)
}

// bySignal swaps it and tells one process to look. Processes look by
// themselves, too, once a second; when one has been faster the signal has
// proven nothing, and another change is made.
func (o *operator) bySignal(n int) {
	o.t.Helper()
	for try := 1; ; try++ {
		lineCap := 2000 + 10*n + try
		o.mount.write(o.fileWith(lineCap))
		o.cluster.nodes[n%len(o.cluster.nodes)].signal(syscall.SIGHUP)
		if o.made("queue.cap", lineCap).Source == "signal" {
			return
		}
		require.Less(o.t, try, 8, "SIGHUP was never the first to bring a change")
	}
}

// applied returns the version that a process says it has applied.
func (o *operator) applied(n *node) string {
	_, ops := n.addresses()
	resp, err := o.cluster.client.Get("http://" + ops + "/metrics")
	require.NoError(o.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(o.t, err)
	_, after, _ := bytes.Cut(text, []byte("\nsluice_config_version "))
	value, _, _ := bytes.Cut(after, []byte("\n"))
	return string(value)
}

// allShow holds what every process says of itself against the newest version.
func (o *operator) allShow(version int64) {
	o.t.Helper()
	require.Eventually(o.t, func() bool {
		var list struct {
			Instances []struct {
				ConfigVersion int64 `json:"config_version"`
			} `json:"instances"`
		}
		a, err := o.cluster.admin(o.t.Context(), o.cluster.nodes[1], http.MethodGet, "/instances", nil)
		require.NoError(o.t, err)
		require.NoError(o.t, json.Unmarshal(a.Raw, &list))
		for _, i := range list.Instances {
			if i.ConfigVersion != version {
				return false
			}
		}
		return len(list.Instances) == len(o.cluster.nodes)
	}, 20*time.Second, 100*time.Millisecond)
}
