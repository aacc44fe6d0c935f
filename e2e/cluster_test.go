package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

const (
	secret = "the-shared-secret-of-the-end-to-end-tests"
	lease  = 2 * time.Second // the shortest allowed: a dead worker's tickets come back quickly

	// patientLease is for tests in which no worker dies: a slow machine must not make one look dead.
	patientLease = "SLUICE_QUEUE__LEASE=1m"
)

// cluster is a whole system: stores, a faulty network before them, processes.
type cluster struct {
	t      testing.TB
	stores *stores
	nodes  []*node
	redis  []*testkit.Proxy // one for each node; nil when Redis is a group
	db     []*testkit.Proxy // one for each node; nil with sqlite
	logs   string
	client *http.Client
	wg     sync.WaitGroup
	stop   context.CancelFunc
	lasts  context.Context // until stop
}

// system is what to run.
type system struct {
	tags   string         // of the binary
	path   string         // of another build, instead of one with tags
	layout layout         // which processes
	arms   map[int]string // where a process is to die, by its place in the layout
	env    []string       // for all of them
	config string         // a file for all of them, which then says what changes while they run
	logs   string         // folder, which stays
}

// layout says which processes to run; each is a list of roles.
type layout []string

const allRoles = "gateway,worker,notifier"

// startCluster starts every process at once and returns when all run. They
// end, and everything is closed, when the test ends.
func startCluster(t testing.TB, s *stores, y system) *cluster {
	t.Helper()
	require.NoError(t, os.MkdirAll(y.logs, 0o755))
	ctx, stop := context.WithCancel(context.Background())
	c := &cluster{t: t, stores: s, logs: y.logs, stop: stop, lasts: ctx, client: &http.Client{
		Timeout:   4 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}}
	path := y.path
	if path == "" {
		path = binary(t, y.tags)
	}
	for i := range y.layout {
		c.add(path, i, y)
	}
	c.launch(ctx)
	return c
}

// launch starts every process at once and returns when all run.
func (c *cluster) launch(ctx context.Context) {
	t := c.t
	t.Helper()
	t.Cleanup(c.close)
	for _, n := range c.nodes {
		c.supervise(n)
	}
	c.awaitRunning()
	for _, n := range c.nodes {
		n.mu.Lock()
		require.Zero(t, n.misfires, "%s did not start at once; logs in %s", n.name, c.logs)
		n.mu.Unlock()
	}
}

func (c *cluster) add(path string, i int, y system) {
	roles := y.layout[i]
	name := fmt.Sprintf("%s-%d", strings.ReplaceAll(roles, ",", "+"), i)
	dsn := c.stores.database.DSN
	if c.stores.database.Driver != "sqlite" {
		proxy := testkit.NewRewritingProxy(c.t, c.stores.database.Driver, c.stores.upstream())
		c.db = append(c.db, proxy)
		dsn = c.stores.through(proxy.Addr())
	}
	settings := append(c.reach(),
		"SLUICE_REDIS__TIMEOUT=1s",
		"SLUICE_DATABASE__DRIVER="+c.stores.database.Driver, "SLUICE_DATABASE__DSN="+dsn,
		"SLUICE_DATABASE__TX_TIMEOUT=2s", "SLUICE_DATABASE__MAX_CONNS=8",
		"SLUICE_AUTH__SECRET="+secret, "SLUICE_HTTP__ADDR=127.0.0.1:0", "SLUICE_OPS__ADDR=127.0.0.1:0",
		"SLUICE_QUEUE__LEASE="+lease.String(), "SLUICE_QUEUE__BACKOFF=50ms", "SLUICE_POOL__SIZE=3",
		"SLUICE_NOTIFY__LEASE=2s", "SLUICE_NOTIFY__TIMEOUT=1s", "SLUICE_NOTIFY__RETRY_UNIT=200ms",
		"SLUICE_LIMITS__GLOBAL_RPS=0", "SLUICE_LIMITS__PER_USER_RPS=0", "SLUICE_LIMITS__PER_IP_RPS=0",
		"SLUICE_LOG__LEVEL=info", "SLUICE_LOG__FORMAT=json", "SLUICE_STOP__GRACE=10s",
	)
	if y.config != "" {
		settings = slices.DeleteFunc(settings, func(s string) bool { // the environment counts above a file
			return strings.HasPrefix(s, "SLUICE_LIMITS__") || strings.HasPrefix(s, "SLUICE_POOL__")
		})
	}
	c.nodes = append(c.nodes, &node{
		name: name, binary: path, roles: roles, config: y.config, env: append(settings,
			y.env...), pause: restartPause, arm: y.arms[i],
		logPath: filepath.Join(c.logs, name+".log"),
	})
}

// supervise keeps a node running until the cluster is closed.
func (c *cluster) supervise(n *node) {
	c.wg.Go(func() {
		if err := n.supervise(c.lasts); err != nil {
			c.t.Errorf("supervise %s: %v", n.name, err)
		}
	})
}

func (c *cluster) close() {
	c.stop()
	c.wg.Wait()
	c.client.CloseIdleConnections()
}

const startPatience = 60 * time.Second

// awaitRunning returns when every process runs and has its lines in order.
func (c *cluster) awaitRunning() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	for {
		var wanting []string
		for _, n := range c.nodes {
			if why := c.unready(n); why != "" {
				wanting = append(wanting, n.name+": "+why)
			}
		}
		if len(wanting) == 0 {
			return
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			require.FailNow(c.t, "not every process became ready", "logs in %s\n%s", c.logs,
				strings.Join(wanting, "\n"))
		}
	}
}

func (c *cluster) ready(n *node) bool { return c.unready(n) == "" }

// unready says why a process is not ready, "" when it is.
func (c *cluster) unready(n *node) string {
	_, ops := n.addresses()
	if ops == "" {
		return "it does not run"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz?verbose", nil)
	if err != nil {
		return err.Error()
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	return string(text)
}

// gateways returns the nodes that shoppers can reach.
func (c *cluster) gateways() []*node {
	var found []*node
	for _, n := range c.nodes {
		if strings.Contains(n.roles, "gateway") {
			found = append(found, n)
		}
	}
	return found
}

// heal ends every fault of the network.
func (c *cluster) heal() {
	for _, p := range slices.Concat(c.redis, c.db) {
		p.Clear()
		p.DropReplies(false)
		p.Delay(0)
		p.Resume()
		if err := p.Heal(); err != nil {
			c.t.Errorf("heal the network: %v", err)
		}
	}
}
