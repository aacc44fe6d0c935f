package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// randomPlans returns the runs of the environment: KILL_RUNS from the seed KILL_SEED on, of the engines in KILL_ENGINES
// only, or with the one fault KILL_FAULT each. A seed decides its run alone: what is not asked for is passed over.
func randomPlans(t *testing.T) []plan {
	t.Helper()
	runs, err := strconv.Atoi(os.Getenv("KILL_RUNS"))
	require.NoError(t, err, "KILL_RUNS")
	seed, err := strconv.ParseUint("0"+os.Getenv("KILL_SEED"), 10, 64)
	require.NoError(t, err, "KILL_SEED")
	kind := os.Getenv("KILL_FAULT")
	if kind != "" {
		require.Contains(t, clusterFaults, kind, "KILL_FAULT")
	}
	engines := wanted(t, kind)
	var plans []plan
	for ; len(plans) < runs; seed++ {
		p := planOf(seed)
		if kind != "" {
			p = only(seed, kind)
		}
		if slices.Contains(engines, p.engine) {
			plans = append(plans, p)
		}
	}
	return plans
}

// wanted returns the engines that KILL_ENGINES names, all of them when it is empty.
func wanted(t *testing.T, kind string) []string {
	t.Helper()
	every := []string{onSingle, onCluster, onSentinel}
	if kind != "" {
		every = slices.DeleteFunc(every, func(engine string) bool {
			return !slices.Contains(groupFaults(engine),
				kind)
		})
	}
	text := os.Getenv("KILL_ENGINES")
	if text == "" {
		return every
	}
	engines := strings.Split(text, ",")
	for _, engine := range engines {
		require.Contains(t, every, engine, "KILL_ENGINES")
	}
	return engines
}

// replay returns the command that repeats a random run.
func replay(p plan) string {
	command := fmt.Sprintf("make kill-matrix SEED=%d RUNS=1", p.seed)
	if kind := os.Getenv("KILL_FAULT"); kind != "" {
		command += " FAULT=" + kind
	}
	return command
}

// tally is what came out of the runs on one engine.
type tally struct {
	runs, kills, failovers, orders int
	recovery, silence              []time.Duration
}

// String returns the line of a run's numbers.
func (f *findings) String() string {
	short := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	return fmt.Sprintf(
		"accepted %d, confirmed %d, paid %d, expired %d, gone %d, lost %d, revived %d, forgotten %d, late %d, "+
			"audits %d, longest difference %s, multi-sale batches %d, nobody accepted for %s, recovery %s", f.accepted,
		f.confirmed, f.paid, f.expired, f.gone, f.lost,
		f.revived, f.forgotten, f.late, f.audits, short(f.stood), f.multiSale, short(f.silence), short(f.recovery))
}

// count adds a run to its engine's tally. The matrix is locked.
func (m *matrix) count(k *checker) {
	c := m.engines[k.plan.engine]
	if c == nil {
		c = &tally{}
		m.engines[k.plan.engine] = c
	}
	for _, n := range k.cluster.nodes {
		passed, _, killed := n.record()
		c.kills += killed + len(passed)
	}
	for _, f := range k.plan.faults {
		if slices.Contains([]string{redisKill, redisEmpty, redisBack, dbKill, dbPromote, masterKill, lagged,
			thereAndBack}, f.kind) {
			c.kills++
		}
	}
	v := k.findings
	m.runs++
	m.gone += v.gone
	m.lost += v.lost
	m.multiSale += v.multiSale
	m.stood = max(m.stood, v.stood)
	c.runs++
	c.failovers += int(k.breaker.failovers.Load())
	c.orders += v.accepted
	c.recovery = append(c.recovery, v.recovery)
	c.silence = append(c.silence, v.silence)
}

// add puts another engine's runs to these.
func (c *tally) add(other *tally) {
	c.runs += other.runs
	c.kills += other.kills
	c.failovers += other.failovers
	c.orders += other.orders
	c.recovery = append(c.recovery, other.recovery...)
	c.silence = append(c.silence, other.silence...)
}

func (c *tally) String() string {
	return fmt.Sprintf("%d runs, %d kills, %d failovers, %d orders accepted, nobody accepted for %s, recovery %s",
		c.runs, c.kills, c.failovers, c.orders, spread(c.silence), spread(c.recovery))
}

// spread sorts times and returns their median and the worst.
func spread(times []time.Duration) string {
	slices.Sort(times)
	median, worst := times[len(times)/2], times[len(times)-1]
	return fmt.Sprintf("median %s, worst %s", median.Round(10*time.Millisecond), worst.Round(10*time.Millisecond))
}

// summary returns the figures of all runs, and of those on each engine.
func (m *matrix) summary() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs == 0 {
		return "no runs"
	}
	all, text := &tally{}, &strings.Builder{}
	for _, engine := range slices.Sorted(maps.Keys(m.engines)) {
		c := m.engines[engine]
		fmt.Fprintf(text, "\n  %s: %s", engine, c)
		all.add(c)
	}
	return fmt.Sprintf("kill matrix: %s, %d deaths at named steps, "+
		"%d gone with a Redis that lost its data (%d of them for good), "+
		"%d transactions with orders of several sales, longest difference %s, errors logged %v, failed %v%s",
		all, m.points, m.gone, m.lost, m.multiSale, m.stood.Round(10*time.Millisecond), m.alarms, m.failed, text)
}
