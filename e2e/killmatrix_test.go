package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
)

// TestKillMatrix lets systems of real processes fail in every way we know
// while shoppers order, and checks them afterwards. Without KILL_RUNS it runs
// every kind of fault and every kill point once, several in a run; with "each",
// every one in a run of its own; with a number, that many runs with random
// faults, which the seeds from KILL_SEED on decide.
func TestKillMatrix(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	t.Run("runs", func(t *testing.T) {
		for _, p := range m.plans {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				m.run(t, p)
			})
		}
	})
	fmt.Println(m.summary())
	if m.runs < len(m.plans) || m.random && m.runs < manyRuns {
		return // -run has picked some, or a seed is replayed
	}
	require.Positive(t, m.multiSale, "no run had a transaction with orders of several sales")
}

// manyRuns are enough for what need not happen in each.
const manyRuns = 20

// matrix is many runs and what came out of them.
type matrix struct {
	plans  []plan
	random bool
	logs   string
	lanes  chan *lane

	mu        sync.Mutex
	runs      int
	points    int
	gone      int
	lost      int
	multiSale int
	stood     time.Duration // the longest that a difference was seen to stand
	failed    []string
	alarms    map[string]int    // how often each error was logged
	engines   map[string]*tally // by the engine of Redis
}

// lane is what one run at a time may kill: database servers of its own.
type lane struct {
	mu      sync.Mutex
	servers map[string]*servers.Server
	standby *standby // of the run that has this lane, when its plan promotes one
}

// lanesMost bounds the runs at the same time; go test's -parallel does too.
const lanesMost = 4

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	m := &matrix{
		alarms: map[string]int{}, engines: map[string]*tally{}, plans: shortPlans(), logs: os.Getenv("KILL_LOGS"),
		lanes: make(chan *lane, lanesMost),
	}
	switch os.Getenv("KILL_RUNS") {
	case "":
	case "each":
		m.plans = eachPlans()
	default:
		m.random, m.plans = true, randomPlans(t)
	}
	binary(t, killPoints) // compiling is on nobody's clock
	if m.logs == "" {
		logs, err := filepath.Abs("../data/kill-matrix")
		require.NoError(t, err)
		m.logs = logs
	}
	for range lanesMost {
		l := &lane{servers: map[string]*servers.Server{}}
		t.Cleanup(func() { require.NoError(t, l.close()) })
		m.lanes <- l
	}
	return m
}

// database returns an empty database, on a server of its own if a fault kills it.
func (l *lane) database(t *testing.T, p plan) (testkit.Database, *servers.Server) {
	t.Helper()
	if p.driver == "sqlite" || !p.has(fault.ownsDatabase) {
		return testkit.NewDatabase(t, p.driver), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.servers[p.driver] == nil {
		server, err := startEngine(context.Background(), p.driver) // it outlives this run
		require.NoError(t, err)
		l.servers[p.driver] = server
	}
	server := l.servers[p.driver]
	require.NoError(t, server.Start(t.Context()))
	dsn := servers.MySQLDSN(server, "")
	if p.driver == "postgres" {
		dsn = servers.PostgresDSN(server, "postgres")
	}
	database := testkit.NewDatabaseOn(t, testkit.Database{Driver: p.driver, DSN: dsn})
	if p.has(func(f fault) bool { return f.kind == dbSettings }) {
		database = asShop(t, database)
	}
	if p.has(func(f fault) bool { return f.kind == dbPromote }) {
		l.standby = newStandby(t, server)
	}
	return database, server
}

func (l *lane) close() error {
	for _, server := range l.servers {
		if err := server.Close(); err != nil {
			return err
		}
	}
	return nil
}

const (
	runPatience  = 10 * time.Minute
	loadPatience = 5 * time.Minute
)

// run starts one system, sells with faults, and stops it.
func (m *matrix) run(t *testing.T, p plan) {
	l := <-m.lanes
	defer func() { m.lanes <- l }()
	ctx, cancel := context.WithTimeout(t.Context(), runPatience)
	defer cancel()
	began := time.Now()
	logs := filepath.Join(m.logs, p.name)
	require.NoError(t, os.RemoveAll(logs))
	database, server := l.database(t, p)
	stores := openStoresOn(t, p.engine, database, server)
	stores.standby = l.standby
	cluster := startCluster(t, stores, system{tags: killPoints, layout: p.layout, arms: p.arms(), logs: logs,
		env: p.env()})
	k := m.sell(ctx, t, cluster, p)
	m.report(t, k, began)
}

// env returns the configuration of a plan's processes.
func (p plan) env() []string {
	env := append(p.promise(), "SLUICE_QUEUE__BATCH="+strconv.Itoa(p.batch))
	if p.pays {
		env = append(env, mustPay(unpaidFor)...)
	}
	if p.follows {
		env = append(env, followEnv()...)
	}
	return env
}

// sell runs the sale and its faults, and checks the result.
func (m *matrix) sell(ctx context.Context, t *testing.T, c *cluster, p plan) *checker {
	sale := "sale-" + strconv.FormatUint(p.seed, 10)
	c.openSale(t, sale, p.stock, p.limit, p.lineCap)
	beside, systems := openNeighbours(t, c, p), openFollowed(t, c, p)
	shoppers := &loadGenerator{cluster: c, sale: sale, plan: p, span: p.span(), history: &history{}}
	loaded := make(chan struct{})
	b := &breaker{
		cluster: c, plan: p, sale: sale, answered: shoppers.history.answered.Load,
		accepted: func() int { return len(shoppers.history.accepted()) }, loaded: func() bool { return closed(loaded) },
	}
	k := &checker{cluster: c, sale: sale, plan: p, history: shoppers.history, breaker: b, findings: &findings{}}

	load, stop := context.WithTimeout(ctx, loadPatience)
	defer stop()
	shoppers.start(load)
	beside.start(load, loaded)
	defer systems.start(ctx, p.seed)()
	go func() { shoppers.wg.Wait(); close(loaded) }()
	watched, unwatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { k.auditWhileBusy(watched) })
	b.start(ctx)
	b.wg.Wait()
	c.heal()
	c.awaitRunning()
	k.noteRecovery(ctx)
	<-loaded
	beside.wg.Wait()
	k.findings.addIf(load.Err() != nil, "shoppers were still without an answer after %s", loadPatience)
	k.awaitQuiet(ctx)
	k.await(ctx, "the sales beside it do not come to rest", func() string { return beside.busy(ctx) })
	unwatch()
	watching.Wait()
	c.awaitRunning() // a point may have been passed at the very end
	k.checkAll(ctx)
	beside.check(ctx, k.findings)
	systems.check(ctx, k)
	if !m.random {
		k.checkPassed()
	}
	for _, err := range b.errs {
		k.findings.addIf(true, "%v", err)
	}
	return k
}

// checkPassed finds a step of the plan at which no process died.
func (k *checker) checkPassed() {
	var died []string
	for _, n := range k.cluster.nodes {
		points, _, _ := n.record()
		died = append(died, points...)
	}
	for _, f := range k.plan.faults {
		reached := slices.ContainsFunc(died, func(one string) bool { return strings.HasPrefix(one, f.arm+"@") })
		k.findings.addIf(f.kind == point && !reached, "the step %s was not passed", f.arm)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// report prints the run's line, keeps the logs of one that failed, and counts.
func (m *matrix) report(t *testing.T, k *checker, began time.Time) {
	v, p := k.findings, k.plan
	var points []string
	for _, n := range k.cluster.nodes {
		passed, _, _ := n.record()
		points = append(points, passed...)
	}
	fmt.Printf("%-22s %s => died at %v; failovers %d, %s, took %s\n", p.name, p, points, k.breaker.failovers.Load(), v,
		time.Since(began).Round(100*time.Millisecond))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.points += len(points)
	m.count(k)
	for _, alarm := range v.alarms {
		m.alarms[alarm]++
	}
	if len(v.wrong) == 0 {
		require.NoError(t, os.RemoveAll(k.cluster.logs))
		return
	}
	m.failed = append(m.failed, p.name)
	again := "go test -count=1 ./e2e -run 'TestKillMatrix/runs/" + p.name + "$'"
	if m.random {
		again = replay(p)
	} else if os.Getenv("KILL_RUNS") != "" {
		again = "KILL_RUNS=each " + again
	}
	t.Errorf("%s\nschedule: %s\nlogs: %s\nagain: %s\n- %s", p.name, p, k.cluster.logs, again,
		strings.Join(v.wrong, "\n- "))
}
