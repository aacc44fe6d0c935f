package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

const (
	rushRequests = 100_000
	rushStock    = 40_000
	rushChanges  = 20
	rushAtOnce   = 64
	// rushStep is the requests that belong to one change: the change begins among them, and those of the next are sent while it is made.
	rushStep = rushRequests / (rushChanges + 2) / 2 * 2
)

// throng is the shoppers of one sale. Each orders twice, the second time
// through another gateway. They run on while changes are made, but never far
// ahead of them: every change falls into the rush, however long it takes.
type throng struct {
	cluster *cluster
	sale    string
	client  *http.Client

	sent, answered atomic.Int64
	next           atomic.Int64  // shopper
	changed        chan struct{} // a token for each step that may be sent

	mu       sync.Mutex
	outcomes map[string]int
	accepted map[string]bool // order ids
	wrong    []string
}

func newThrong(c *cluster, sale string) *throng {
	th := &throng{cluster: c, sale: sale, outcomes: map[string]int{}, accepted: map[string]bool{}, changed: make(chan struct{}, 2*rushRequests),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: rushAtOnce, DisableCompression: true}}}
	th.allow(2 * rushStep)
	return th
}

// allow lets so many more requests be sent.
func (th *throng) allow(requests int) {
	for range requests / 2 {
		th.changed <- struct{}{}
	}
}

// run returns when all requests were answered.
func (th *throng) run(ctx context.Context) {
	defer th.client.CloseIdleConnections()
	var all sync.WaitGroup
	for range rushAtOnce {
		all.Go(func() {
			for ctx.Err() == nil {
				n := th.next.Add(1)
				if n > rushRequests/2 {
					return
				}
				select {
				case <-th.changed:
					th.shop(ctx, int(n))
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
}

// shop is one shopper's two orders.
func (th *throng) shop(ctx context.Context, n int) {
	bearer, err := token("shopper-"+strconv.Itoa(n), false)
	if err != nil {
		th.complain("no token: %v", err)
		return
	}
	gateways := th.cluster.gateways()
	first := th.order(ctx, gateways[n%len(gateways)], bearer)
	second := th.order(ctx, gateways[(n+1)%len(gateways)], bearer)
	switch {
	case first.Code == "" && second.Code != "limit_reached" && second.Code != "rate_limited":
		th.complain("shopper %d has order %s and was told %d %s", n, first.OrderID, second.Status, second.Code)
	case second.Code == "limit_reached" && second.OrderID != first.OrderID:
		th.complain("shopper %d has order %q and was told of %q", n, first.OrderID, second.OrderID)
	}
}

// rushContract is what the contract lets a healthy system answer to an order.
var rushContract = map[int][]string{http.StatusAccepted: {""}, http.StatusConflict: {"sold_out", "limit_reached"},
	http.StatusTooManyRequests: {"rate_limited"}, http.StatusServiceUnavailable: {"queue_full"}}

func (th *throng) order(ctx context.Context, at *node, bearer string) reply {
	addr, _ := at.addresses()
	th.sent.Add(1)
	a, err := call(ctx, th.client, http.MethodPost, "http://"+addr+"/v1/sales/"+th.sale+"/orders", bearer, nil, nil)
	th.answered.Add(1)
	th.mu.Lock()
	defer th.mu.Unlock()
	th.outcomes[fmt.Sprint(a.Status, " ", a.Code)]++
	named := false
	for _, code := range rushContract[a.Status] {
		named = named || code == a.Code
	}
	if err != nil || !named {
		th.wrong = append(th.wrong, fmt.Sprintf("answer %d %q, error %v", a.Status, a.Code, err))
	}
	if a.Status == http.StatusAccepted {
		th.accepted[a.OrderID] = true
	}
	return a
}

func (th *throng) complain(format string, args ...any) {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.wrong = append(th.wrong, fmt.Sprintf(format, args...))
}

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

// versions are the newest there are, newest first.
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
	args := []string{"config", "set", fmt.Sprintf("pool.size=%d", size), fmt.Sprintf("queue.batch=%d", 20+n*11), "--reason", "rush", "--ops", "http://" + ops}
	if n%2 == 0 && n < rushChanges/2 {
		args = append(args, "--for", "1s") // ends during the rush, with a version of its own
	}
	o.shell.ok(args...)
	require.Equal(o.t, "admin", o.made("queue.batch", 20+n*11).Source)
}

func (o *operator) fileWith(lineCap int) string {
	return fmt.Sprintf("queue: {cap: %d, max_wait: 20s, min_cap: 200}\nlimits: {per_user_rps: %d, global_rps: %d, per_ip_rps: 5}\n", lineCap, 50+lineCap%10, 1000+lineCap)
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

// applied is the version that a process says it goes by.
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

// A sale of 100,000 requests during which limits, cap, batch and pool of two gateways and a worker change twenty times by all three ways.
func TestASaleWhileEverythingChanges(t *testing.T) {
	o := &operator{t: t}
	o.mount = newMount(t, o.fileWith(1500))
	s := openStores(t, testkit.NewDatabase(t, "postgres"), nil)
	c := startCluster(t, s, system{layout: layout{"gateway", "gateway", "worker,notifier"}, logs: t.TempDir(), config: o.mount.path(),
		env: []string{"SLUICE_LOG__LEVEL=info"}})
	o.cluster, o.shell = c, shell{t: t, path: c.nodes[0].binary, env: []string{"PATH=/usr/bin:/bin", "SLUICE_AUTH__SECRET=" + secret}}
	c.openSale(t, "rush", rushStock, 1, 0)

	th := newThrong(c, "rush")
	load, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { th.run(load) })

	ways := []func(int){o.byAdmin, o.byMount, o.bySignal}
	var before int64
	for n := range rushChanges {
		due := max(int64(n*rushStep), before+rushStep/4)
		require.Eventually(t, func() bool { return th.answered.Load() >= due }, time.Minute, time.Millisecond, "answers between two changes")
		require.Greater(t, th.sent.Load(), th.answered.Load(), "requests are in flight")
		began := time.Now()
		ways[n%len(ways)](n)
		t.Logf("change %d: made in %s, %d requests answered", n+1, time.Since(began).Round(time.Millisecond), th.answered.Load())
		before = th.answered.Load()
		th.allow(rushStep)
	}
	require.Less(t, before, int64(rushRequests-rushStep/2), "the last change fell into the rush, too")
	th.allow(rushRequests)
	running.Wait()
	require.NoError(t, load.Err())

	require.EqualValues(t, rushRequests, th.answered.Load())
	require.Empty(t, th.wrong)
	t.Log(th.outcomes)
	last := o.versions()[0]
	require.Equal(t, o.version, last.Version, "nothing but the changes and their ends has made a version")
	for _, n := range c.nodes {
		require.Eventually(t, func() bool { return o.applied(n) == strconv.FormatInt(last.Version, 10) }, 10*time.Second, 50*time.Millisecond,
			"%s has %s, the last change made %d", n.name, o.applied(n), last.Version)
	}
	o.allShow(last.Version)
	o.soldExactly(th)
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

// soldExactly waits until the line is empty and compares both stores with what shoppers were told.
func (o *operator) soldExactly(th *throng) {
	o.t.Helper()
	s := o.cluster.stores
	require.Eventually(o.t, func() bool {
		busy, err := s.busy(o.t.Context(), th.sale)
		return err == nil && busy == ""
	}, quietPatience, lookEvery)
	rows, err := s.orders(o.t.Context(), th.sale)
	require.NoError(o.t, err)
	confirmed := 0
	for id := range th.accepted {
		if rows[id].Status == "confirmed" {
			confirmed++
		}
	}
	require.Equal(o.t, len(th.accepted), confirmed, "each accepted order, and")
	require.Equal(o.t, len(th.accepted), len(rows), "no other")
	_, available, err := s.stock(o.t.Context(), th.sale)
	require.NoError(o.t, err)
	require.Equal(o.t, rushStock-len(th.accepted), available)
	_, ops := o.cluster.nodes[0].addresses()
	o.shell.ok("audit", "--ops", "http://"+ops)
}
