package e2e

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASeedDecidesItsPlanAlone(t *testing.T) {
	t.Parallel()
	engines, kinds, replicated := map[string]int{}, map[string]bool{}, 0
	for seed := range uint64(300) {
		p := planOf(seed)
		require.Equal(t, p, planOf(seed))
		engines[p.engine]++
		if p.replicated {
			replicated++
		}
		ofGroup := p.has(func(f fault) bool { return slices.Contains(clusterFaults, f.kind) })
		require.Equal(t, p.engine != onSingle, ofGroup, "%s", p)
		for _, f := range p.faults {
			kinds[f.kind] = true
			require.False(t, p.engine == onSentinel && !slices.Contains(sentinelFaults, f.kind) &&
				slices.Contains(clusterFaults, f.kind), "%s", p)
			require.False(t, p.engine != onSingle && slices.Contains(redisFaults, f.kind), "%s has no proxies", p)
		}
		require.False(t, p.replicated && p.lossy(), "%s", p)
	}
	require.Len(t, engines, 3)
	require.Positive(t, replicated)
	for _, kind := range slices.Concat(processFaults, redisFaults, dbFaults, clusterFaults) {
		require.True(t, kinds[kind], "no seed draws %s", kind)
	}
}

func TestEnginesAndFaultsAreNarrowedBySkippingSeeds(t *testing.T) {
	t.Setenv("KILL_RUNS", "4")
	t.Setenv("KILL_SEED", "7")
	t.Setenv("KILL_ENGINES", onCluster)
	plans := randomPlans(t)
	require.Len(t, plans, 4)
	for _, p := range plans {
		require.Equal(t, onCluster, p.engine)
		require.Equal(t, planOf(p.seed), p, "its seed replays it without a word of engines")
	}
	t.Setenv("KILL_FAULT", thereAndBack)
	for _, p := range randomPlans(t) {
		require.Equal(t, onCluster, p.engine)
		require.Len(t, p.faults, 1)
		require.Equal(t, thereAndBack, p.faults[0].kind)
		require.Equal(t, only(p.seed, thereAndBack), p)
	}
}

func TestOnlyWhatWasAnsweredInAWindowMayBeLost(t *testing.T) {
	t.Parallel()
	b, now := &breaker{}, time.Now()
	at := func(sent, got time.Duration) answer { return answer{sent: now.Add(sent), got: now.Add(got)} }
	lost := func(a answer) bool { may, _ := b.mayLose(a); return may }
	require.False(t, lost(at(0, 0)), "no window")
	over := b.loses(now)
	require.False(t, lost(at(-2*time.Second, -time.Second)), "before it")
	require.True(t, lost(at(-time.Second, time.Second)), "across its beginning")
	require.True(t, lost(at(time.Hour, time.Hour)), "it is open")
	over()
	require.False(t, lost(at(time.Hour, time.Hour)), "after it")
	b.loses(time.Time{})()
	require.True(t, lost(at(-time.Hour, -time.Hour)), "all before was lost")
}

func TestADifferenceMayNotStand(t *testing.T) {
	t.Parallel()
	now := time.Now()
	fresh := func(p plan) *checker { return &checker{plan: p, findings: &findings{}} }
	k := fresh(plan{engine: onCluster, faults: []fault{{kind: lagged}}})
	k.noteDifference(now, nil)
	k.noteDifference(now.Add(standMost), nil)
	require.Empty(t, k.findings.wrong)
	k.noteDifference(now.Add(standMost+time.Millisecond), nil)
	k.noteDifference(now.Add(standMost+time.Second), nil)
	require.Len(t, k.findings.wrong, 1, "said once")

	k = fresh(plan{engine: onCluster, faults: []fault{{kind: lagged}}})
	k.noteDifference(now, nil)
	k.noteClean()
	k.noteDifference(now.Add(2*standMost), nil)
	require.Empty(t, k.findings.wrong, "it was mended in between")

	k = fresh(plan{engine: onSingle, faults: []fault{{kind: kill}}})
	k.noteDifference(now, nil)
	require.Len(t, k.findings.wrong, 1, "nothing explains it")
}

func TestAnAcceptedOrderFailsOnlyAsLost(t *testing.T) {
	t.Parallel()
	now := time.Now()
	accepted := func() *request {
		r := &request{id: "s1-1", user: "u"}
		r.answers = []answer{{method: http.MethodPost, sent: now, got: now,
			reply: reply{Status: http.StatusAccepted, OrderID: "o"}}}
		return r
	}
	const none, one, both = 0, 1, 2 // servers that answered when something could be lost
	wrong := func(answering int, r *request, status, reason string) int {
		k := &checker{breaker: &breaker{}, findings: &findings{}}
		switch answering {
		case one:
			k.breaker.loses(now)
		case both:
			k.breaker.splits(time.Now().Add(-slack))
		}
		k.checkLosses(r, orderRow{ID: "o", Status: status, Reason: reason})
		return len(k.findings.wrong)
	}
	require.Zero(t, wrong(one, accepted(), "failed", "lost"))
	require.Equal(t, 1, wrong(one, accepted(), "failed", "sold_out"), "sold out after a 202")
	require.Zero(t, wrong(both, accepted(), "failed", "sold_out"))
	require.Equal(t, 1, wrong(none, accepted(), "failed", "lost"), "nothing could be lost then")
	require.Zero(t, wrong(none, accepted(), "confirmed", ""))

	cancelled := accepted()
	cancelled.answers = append(cancelled.answers,
		answer{method: http.MethodDelete, sent: now, got: now, reply: reply{Status: http.StatusOK, State: "cancelled"}})
	require.Zero(t, wrong(one, cancelled, "confirmed", ""))
	require.Equal(t, 1, wrong(none, cancelled, "confirmed", ""), "back from the dead")
	require.Zero(t, wrong(none, cancelled, "cancelled", ""))
}
