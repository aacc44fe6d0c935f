package model_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/model"
)

func TestCheckTellsASoundModelFromABrokenOne(t *testing.T) {
	t.Parallel()
	sound := model.Instance{Name: "one ticket", Defines: "-DT=1"}
	r, err := model.Check(t.Context(), sound)
	require.NoError(t, err)
	require.Empty(t, r.Violation)
	require.Greater(t, r.States, int64(50))
	require.NoError(t, sound.Expect(r))
	sound.Broken = true
	require.ErrorContains(t, sound.Expect(r), "was not found")

	broken := model.Instance{Name: "no order key", Defines: "-DT=1 -DS=2 -DM_NO_KEY", Broken: true}
	r, err = model.Check(t.Context(), broken)
	require.NoError(t, err)
	require.NoError(t, broken.Expect(r))
	require.Contains(t, r.Violation, "ledger.available")
	require.Regexp(t, "^Commit ", r.Steps[len(r.Steps)-1], "the shortest way ends where it goes wrong")
	broken.Broken = false
	require.ErrorContains(t, broken.Expect(r), "Commit ")
}

// TestCheckRefusesAModelThatItCannotRead checks that a model that does not compile is an error and not a violation.
func TestCheckRefusesAModelThatItCannotRead(t *testing.T) {
	t.Parallel()
	_, err := model.Check(t.Context(), model.Instance{Name: "no number", Defines: "-DT=none", Broken: true})
	require.ErrorContains(t, err, "check no number")
}

func TestEveryFaultOfTheModelIsPlanted(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("line.pml")
	require.NoError(t, err)
	fault := regexp.MustCompile(`M_[A-Z_]+`)
	var planted []string
	names := map[string]bool{}
	for _, i := range model.Instances() {
		require.False(t, names[i.Name], "two instances are called %s", i.Name)
		names[i.Name] = true
		found := fault.FindAllString(i.Defines, -1)
		require.Equal(t, i.Broken, len(found) == 1, "%s plants %v", i.Name, found)
		planted = append(planted, found...)
	}
	written := slices.DeleteFunc(fault.FindAllString(string(source), -1),
		func(name string) bool { return name == "M_" })
	slices.Sort(written)
	slices.Sort(planted)
	require.Equal(t, slices.Compact(written), planted)
}

func TestSimulationsRepeat(t *testing.T) {
	t.Parallel()
	first, err := model.Simulate(t.Context(), 7, 3000, "-DF=1")
	require.NoError(t, err)
	again, err := model.Simulate(t.Context(), 7, 3000, "-DF=1")
	require.NoError(t, err)
	other, err := model.Simulate(t.Context(), 8, 3000, "-DF=1")
	require.NoError(t, err)
	require.NotEmpty(t, first)
	require.Equal(t, first, again)
	require.NotEqual(t, first, other)
}

// TestASimulationThatGoesWrongIsAnError checks that a simulation has the same assertions as the checker.
func TestASimulationThatGoesWrongIsAnError(t *testing.T) {
	t.Parallel()
	for seed := range int64(50) {
		_, err := model.Simulate(t.Context(), seed, 3000, "-DS=2 -DM_NO_KEY")
		if err != nil {
			require.ErrorContains(t, err, "assertion violated")
			return
		}
	}
	t.Fatal("no simulation found the planted fault")
}
