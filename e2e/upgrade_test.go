package e2e

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// rollout is one system whose processes are replaced by those of another build while it sells.
type rollout struct {
	*cluster
	t     *testing.T
	y     system
	sells *steady
}

func startRollout(t *testing.T, driver, build string) *rollout {
	t.Helper()
	y := system{layout: layout{"gateway", "worker,notifier"}, logs: t.TempDir(), path: build}
	s := openStores(t, testkit.NewDatabase(t, driver), nil)
	r := &rollout{cluster: startCluster(t, s, y), t: t, y: y}
	r.openSale(t, "rolling", steadyStock, 1, 10_000)
	r.sells = startSteady(r.cluster, "rolling", r.nodes[0])
	return r
}

// join starts processes of another build beside those that run. With up they must become ready.
func (r *rollout) join(build string, up bool) (gateway, worker *node) {
	r.t.Helper()
	from := len(r.nodes)
	y := r.y
	y.layout = append(make(layout, from), r.y.layout...)
	for i := from; i < len(y.layout); i++ {
		r.add(build, i, y)
		r.supervise(r.nodes[i])
	}
	gateway, worker = r.nodes[from], r.nodes[from+1]
	if up {
		for _, n := range []*node{gateway, worker} {
			require.Eventually(r.t, func() bool { return r.ready(n) }, startPatience, 20*time.Millisecond,
				"%s starts; log in %s", n.name, n.logPath)
		}
	}
	return gateway, worker
}

// retire ends nodes for good, as a rolling update does: by SIGTERM, one after the other.
func (r *rollout) retire(nodes ...*node) {
	r.t.Helper()
	for _, n := range nodes {
		n.hold(time.Hour)
		l := n.signal(syscall.SIGTERM)
		<-l.done
		require.Zero(r.t, l.code, "%s ends in order; log in %s", n.name, n.logPath)
	}
}

// says reports whether the log of a node holds a text.
func (n *node) says(text string) bool {
	log, err := os.ReadFile(n.logPath)
	return err == nil && bytes.Contains(log, []byte(text))
}

// TestUpgradeRollsForward starts this version beside the previous one, which sells, and lets it take over.
func TestUpgradeRollsForward(t *testing.T) {
	t.Parallel()
	previous, now := buildOf(t, previousCommit()), binary(t, "")
	r := startRollout(t, "mysql", previous)
	old := r.nodes[:2:2]
	r.sells.more(t, 400)
	gateway, _ := r.join(now, true)
	r.sells.through(old[0], gateway)
	r.sells.more(t, 600)
	r.sells.through(gateway)
	r.retire(old...)
	r.sells.more(t, 400)
	r.sells.endAndCheck(t, gateway)
}

// TestUpgradeRollsBack starts the previous version beside this one. It takes over, or is refused in plain words where
// the schema has left it behind.
func TestUpgradeRollsBack(t *testing.T) {
	t.Parallel()
	previous, now := buildOf(t, previousCommit()), binary(t, "")
	r := startRollout(t, "postgres", now)
	fresh := r.nodes[:2:2]
	r.sells.more(t, 400)
	gateway, worker := r.join(previous, false)
	require.Eventually(t, func() bool {
		return r.ready(gateway) && r.ready(worker) || gateway.says("this build is too old for the database")
	}, startPatience, 20*time.Millisecond, "it starts or says why not; log in %s", gateway.logPath)
	if !r.ready(gateway) {
		r.sells.endAndCheck(t, fresh[0])
		return
	}
	r.sells.through(fresh[0], gateway)
	r.sells.more(t, 600)
	r.sells.through(gateway)
	r.retire(fresh...)
	r.sells.more(t, 400)
	r.sells.endAndCheck(t, gateway)
}

// TestUpgradeRollsContractionLast checks a build that removes something. It waits for those that need it, does it by
// itself when they have gone, and they are refused.
func TestUpgradeRollsContractionLast(t *testing.T) {
	t.Parallel()
	next, now := nextBuild(t), binary(t, "")
	r := startRollout(t, "mysql", now)
	old := r.nodes[:2:2]
	r.sells.more(t, 200)
	gateway, _ := r.join(next, true)
	require.Equal(t, 1, r.applied(9998))
	require.Zero(t, r.applied(9999))
	require.True(t, gateway.says("contracting migrations wait for older processes to end"), "log in %s",
		gateway.logPath)
	r.sells.through(old[0], gateway)
	r.sells.more(t, 300)
	require.Zero(t, r.applied(9999))
	r.sells.through(gateway)
	r.retire(old...)
	require.Eventually(t, func() bool { return r.applied(9999) == 1 }, startPatience, 50*time.Millisecond,
		"applied once nobody needs the old form")
	late, _ := r.join(now, false)
	require.Eventually(t, func() bool {
		return late.says("this build is too old for the database") &&
			late.says("wants processes that know version 9999")
	}, startPatience, 20*time.Millisecond, "log in %s", late.logPath)
	r.sells.more(t, 200)
	r.sells.endAndCheck(t, gateway)
}

// applied counts how often a migration was applied.
func (r *rollout) applied(version int) int {
	n, err := r.stores.count(r.t.Context(),
		"SELECT COUNT(*) FROM sluice_schema WHERE version_id = "+strconv.Itoa(version))
	require.NoError(r.t, err)
	return n
}

// TestUpgradeRefusesBesideABuildThatTellsNoRange runs a build from before ranges. This one changes nothing and says
// whom to stop. Then it takes over what the old one left.
func TestUpgradeRefusesBesideABuildThatTellsNoRange(t *testing.T) {
	t.Parallel()
	before, now := buildOf(t, beforeRanges), binary(t, "")
	r := startRollout(t, "mysql", before)
	old := r.nodes[:2:2]
	r.sells.more(t, 200)
	gateway, worker := r.join(now, false)
	require.Eventually(t, func() bool {
		return gateway.says("Stop these first: ") && worker.says("Stop these first: ")
	}, startPatience,
		20*time.Millisecond, "log in %s", gateway.logPath)
	n, err := r.stores.count(t.Context(), "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = "+
		"DATABASE() AND table_name IN ('sluice_schema', 'installation')")
	require.NoError(t, err)
	require.Zero(t, n, "nothing was changed")
	sh := shell{t: t, path: now, env: append([]string{"PATH=/usr/bin:/bin"}, gateway.env...)}
	byHand := sh.do("migrate", "up")
	require.Equal(t, 1, byHand.code)
	require.Contains(t, byHand.err, "Stop these first: ")
	r.sells.more(t, 200)

	r.retire(old...)
	r.sells.through(gateway)
	for _, n := range []*node{gateway, worker} {
		require.Eventually(t, func() bool { return r.ready(n) }, startPatience, 20*time.Millisecond,
			"%s starts once they have gone", n.name)
	}
	r.sells.more(t, 200)
	r.sells.endAndCheck(t, gateway)
	kept, err := r.stores.count(t.Context(), "SELECT COUNT(*) FROM goose_db_version")
	require.NoError(t, err)
	require.Equal(t, 9, kept, "the old table stays as it was")
}
