package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/rewrite"
)

func TestPlansDrawEveryFaultOfADatabase(t *testing.T) {
	t.Parallel()
	drawn := map[string]int{}
	for seed := range uint64(6000) {
		p := planOf(seed)
		require.Equal(t, p.String(), planOf(seed).String(), "a plan follows from its seed alone")
		for _, f := range p.faults {
			drawn[p.driver+" "+f.kind+" "+f.what]++
			require.False(t, f.kind == dbPromote && p.driver != "postgres", "%s", p)
			require.False(t, p.driver == "sqlite" && f.ownsDatabase(), "%s", p)
		}
	}
	for _, driver := range []string{"mysql", "postgres"} {
		for _, s := range settingsOf(driver) {
			require.Positive(t, drawn[driver+" "+dbSettings+" "+s.name], "%s of %s", s.name, driver)
		}
		for _, c := range codesOf(driver) {
			require.Positive(t, drawn[driver+" "+dbCodes+" "+c.code], "%s of %s", c.code, driver)
		}
	}
	require.Positive(t, drawn["postgres "+dbPromote+" "])
}

func TestShortPlansHaveEveryFaultAndEveryStep(t *testing.T) {
	t.Parallel()
	for name, plans := range map[string][]plan{"short": shortPlans(), "each": eachPlans()} {
		seen, engines := map[string]bool{}, map[string]bool{}
		for _, p := range plans {
			engines[p.engine] = true
			for _, f := range p.faults {
				step, _, _ := strings.Cut(f.arm, ":")
				seen[f.kind+step], seen[p.driver+" "+f.kind] = true, true
			}
		}
		require.Len(t, engines, 3, name)
		for _, kind := range slices.Concat(processFaults, redisFaults, dbFaults, engineFaults, []string{lagged,
			thereAndBack, reshard, planned}) {
			require.True(t, seen[kind], "%s plans lack %s", name, kind)
		}
		for _, step := range slices.Concat(steps, paySteps) {
			require.True(t, seen[point+step], "%s plans lack %s", name, step)
		}
		for _, want := range []string{"mysql " + dbSettings, "postgres " + dbSettings, "mysql " + dbCodes,
			"postgres " + dbCodes} {
			require.True(t, seen[want], "%s plans lack %s", name, want)
		}
	}
}

// TestCodesAreListedOnce checks that no code is listed twice, which would hide the second.
func TestCodesAreListedOnce(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"mysql", "postgres"} {
		for _, c := range codesOf(driver) {
			refusal, err := codeNamed(driver, c.code)
			require.NoError(t, err)
			require.Equal(t, rewrite.Refusal{Code: c.code, State: c.state, Text: c.text, On: c.on, HangUp: c.hangUp},
				refusal)
		}
		_, err := codeNamed(driver, "none")
		require.Error(t, err)
	}
}
