package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/loadtest/bench/figures"
	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// TestProgressTellsNoValueBeforeTheRunIsGood checks that a run that is refused at its last figure has shown no values.
func TestProgressTellsNoValueBeforeTheRunIsGood(t *testing.T) {
	t.Parallel()
	measured := func(value float64, err error) func(context.Context, *lab.Lab) (figures.Trial, error) {
		return func(context.Context, *lab.Lab) (figures.Trial, error) {
			return figures.Trial{Sluice: func(context.Context) (report.Reading,
				error) {
				return report.Reading{Value: value}, err
			}}, nil
		}
	}
	list := []figures.Figure{{Name: "good", Title: "a figure", Open: measured(31234, nil)},
		{Name: "bad", Title: "another", Open: measured(0, lab.Refuse("unclean"))}}
	for _, verbose := range []bool{false, true} {
		var progress strings.Builder
		_, err := run(t.Context(), &lab.Lab{Opt: lab.Options{Rounds: 1, Scale: 1, Verbose: verbose}, Log: &progress},
			list)
		if err == nil || !strings.Contains(err.Error(), "unclean") {
			t.Errorf("got %v, want a refusal", err)
		}
		if shown := strings.Contains(progress.String(), "31,234"); shown != verbose ||
			!strings.Contains(progress.String(), "good") {
			t.Errorf("verbose %t:\n%s", verbose, progress.String())
		}
	}
}

func TestFiguresHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	list := names(figures.Figures())
	if unique := slices.Compact(slices.Sorted(slices.Values(list))); len(unique) != len(list) {
		t.Fatal(list)
	}
	two, err := chosen(figures.Figures(), "lone, polls")
	if err != nil || len(two) != 2 || two[1].Name != "polls" {
		t.Fatal(two, err)
	}
	if _, err := chosen(figures.Figures(), "nothing"); err == nil {
		t.Fatal("an unknown name was taken")
	}
}

func TestWholeRunIsEstimatedInBounds(t *testing.T) {
	t.Parallel()
	if got := figures.Estimate(figures.Figures(), lab.Options{Rounds: 5, Scale: 1}); got < 5*time.Minute ||
		got > 45*time.Minute {
		t.Fatal(got)
	}
	quick, err := parse([]string{"--quick"})
	if err != nil {
		t.Fatal(err)
	}
	if got := figures.Estimate(figures.Figures(), quick.Options); got > 3*time.Minute {
		t.Fatal(got)
	}
}
