package figures

import (
	"testing"
	"time"

	"sluice/loadtest/bench/report"
)

func TestRowJudgesTheMedianOfTheRatiosOfEachRound(t *testing.T) {
	t.Parallel()
	f := Figure{Name: "x", Unit: "1/s", Target: report.Target{AtLeast: 0.75}}
	// The machine slows down between the rounds; a round's sides are affected alike.
	sluice := []report.Reading{{Value: 80}, {Value: 42}, {Value: 35}}
	yardstick := []report.Reading{{Value: 100}, {Value: 60}, {Value: 50}}
	row := RowOf(f, sluice, yardstick)
	if want := (report.Summary{Median: 0.7, Min: 0.7, Max: 0.8}); row.Judged != want {
		t.Fatalf("judged %+v, want %+v", row.Judged, want)
	}
	if row.Reached == nil || *row.Reached {
		t.Fatal("0.70 does not reach 0.75")
	}
}

func TestRowWithoutYardstickJudgesTheValue(t *testing.T) {
	t.Parallel()
	values := []report.Reading{{Value: 90}, {Value: 120}}
	row := RowOf(Figure{Target: report.Target{AtMost: 110}}, values, nil)
	if row.Judged.Median != 105 || !*row.Reached {
		t.Fatalf("judged %+v", row.Judged)
	}
	if row := RowOf(Figure{}, values, nil); row.Reached != nil {
		t.Fatal("a figure without a target is not judged")
	}
}

// TestADrainIsLookedAtSeldomUntilItsEnd checks that checks are rare until near the end, because they cost CPU time.
func TestADrainIsLookedAtSeldomUntilItsEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, rest float64
		took, want time.Duration
	}{
		{0, 100, 0, watchEvery},
		{0, 100, 5 * time.Second, 100 * time.Millisecond}, // nothing is known
		{1, 99, 5 * time.Second, 100 * time.Millisecond},
		{1, 99, time.Minute, watchSeldom},
		{80, 20, 2 * time.Second, 40 * time.Millisecond}, // a plateau may end at any moment
		{90, 10, 1800 * time.Millisecond, 36 * time.Millisecond},
		{98, 2, 4900 * time.Millisecond, watchEvery},
	} {
		if got := nextLook(c.done, c.rest, c.took); got.Round(time.Millisecond) != c.want {
			t.Errorf("%.0f done in %s, %.0f left: the next look comes in %s, want %s", c.done, c.took, c.rest, got,
				c.want)
		}
	}
}
