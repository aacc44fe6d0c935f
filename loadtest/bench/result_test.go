package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRowJudgesTheMedianOfTheRatiosOfEachRound(t *testing.T) {
	t.Parallel()
	f := Figure{Name: "x", Unit: "1/s", Target: Target{AtLeast: 0.75}}
	// The machine slows down between the rounds; within a round both sides are hit.
	sluice := []Reading{{Value: 80}, {Value: 42}, {Value: 35}}
	yardstick := []Reading{{Value: 100}, {Value: 60}, {Value: 50}}
	row := rowOf(f, sluice, yardstick)
	if want := (Summary{Median: 0.7, Min: 0.7, Max: 0.8}); row.Judged != want {
		t.Fatalf("judged %+v, want %+v", row.Judged, want)
	}
	if row.Reached == nil || *row.Reached {
		t.Fatal("0.70 does not reach 0.75")
	}
}

func TestRowWithoutYardstickJudgesTheValue(t *testing.T) {
	t.Parallel()
	values := []Reading{{Value: 90}, {Value: 120}}
	row := rowOf(Figure{Target: Target{AtMost: 110}}, values, nil)
	if row.Judged.Median != 105 || !*row.Reached {
		t.Fatalf("judged %+v", row.Judged)
	}
	if row := rowOf(Figure{}, values, nil); row.Reached != nil {
		t.Fatal("a figure without a target is not judged")
	}
}

func TestCostIsTheMedianCPUTimeOfAUnit(t *testing.T) {
	t.Parallel()
	readings := []Reading{
		{Work: 1000, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
		{Work: 500, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
		{Work: 100, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
	}
	if got := costs(readings)["sluice"]; got != 20 {
		t.Fatalf("got %v µs, want 20", got)
	}
}

func example() Result {
	missed, reached := false, true
	return Result{Commit: "abc<def", Rounds: 5, Versions: map[string]string{"Go": "1.26"}, Rows: []Row{
		{Title: "orders & more", Against: "handler", Unit: "1/s", Sluice: []float64{31234}, Yardstick: []float64{50000},
			Judged: Summary{0.62, 0.6, 0.65}, AtLeast: 0.75, Reached: &missed, CPU: map[string]float64{"sluice": 20,
				"generator": 9, "redis": 2.5}, Theirs: map[string]float64{"gin": 11}},
		{Title: "memory", Unit: "B", Sluice: []float64{332}, Judged: Summary{332, 330, 340}, AtMost: 400,
			Reached: &reached, Note: "a note"},
		{Title: "shown", Unit: "1/s", Sluice: []float64{7}, Judged: Summary{7, 7, 7}},
	}}
}

func TestTableShowsWhatFallsShort(t *testing.T) {
	t.Parallel()
	for _, text := range []string{plainTable(example()), markdownTable(example())} {
		for _, want := range []string{"31,234 1/s", "50,000 1/s", "0.62 [0.60–0.65]", "at least 0.75", "NO",
			"332 [330–340]", "at most 400", "yes",
			"generator 9.0, redis 2.5, sluice 20.0 = 22.5; yardstick: gin 11.0", "memory: a note", "Commit abc<def"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	}
}

func TestWholeRunIsEstimatedInBounds(t *testing.T) {
	t.Parallel()
	if got := estimate(figures(), Options{Rounds: 5, Scale: 1}); got < 5*time.Minute || got > 45*time.Minute {
		t.Fatal(got)
	}
	quick, err := parse([]string{"--quick"})
	if err != nil {
		t.Fatal(err)
	}
	if got := estimate(figures(), quick.Options); got > 3*time.Minute {
		t.Fatal(got)
	}
}

// A run that is refused at its last figure must not have told what the earlier ones found.
func TestProgressTellsNoValueBeforeTheRunIsGood(t *testing.T) {
	t.Parallel()
	measured := func(value float64, err error) func(context.Context, *Lab) (Trial, error) {
		return func(context.Context, *Lab) (Trial, error) {
			return Trial{Sluice: func(context.Context) (Reading, error) { return Reading{Value: value}, err }}, nil
		}
	}
	list := []Figure{{Name: "good", Title: "a figure", Open: measured(31234, nil)},
		{Name: "bad", Title: "another", Open: measured(0, refuse("unclean"))}}
	for _, verbose := range []bool{false, true} {
		var told strings.Builder
		_, err := run(t.Context(), &Lab{opt: Options{Rounds: 1, Scale: 1, Verbose: verbose}, log: &told}, list)
		wantRefusal(t, err, "unclean")
		if shown := strings.Contains(told.String(), "31,234"); shown != verbose ||
			!strings.Contains(told.String(), "good") {
			t.Errorf("verbose %t:\n%s", verbose, told.String())
		}
	}
}

func TestSavedResultCanBeReadAndDrawn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	if err := example().save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "latest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil || len(r.Rows) != 3 || r.Rows[2].Reached != nil {
		t.Fatalf("%v: %s", err, text)
	}
	svg, err := os.Open(filepath.Join(dir, "latest.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	bars := 0
	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal("not XML:", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+2 { // the ground, and a bar for each row that is judged
		t.Fatalf("%d rectangles", bars)
	}
}

func TestProgressIsOneAtTheTarget(t *testing.T) {
	t.Parallel()
	if got := progress(Row{AtLeast: 0.8}, 0.8); got != 1 {
		t.Error(got)
	}
	if got := progress(Row{AtMost: 400}, 800); got != 0.5 {
		t.Error(got)
	}
}

func TestFiguresHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	list := names(figures())
	if unique := slices.Compact(slices.Sorted(slices.Values(list))); len(unique) != len(list) {
		t.Fatal(list)
	}
	two, err := chosen(figures(), "lone, polls")
	if err != nil || len(two) != 2 || two[1].Name != "polls" {
		t.Fatal(two, err)
	}
	if _, err := chosen(figures(), "nothing"); err == nil {
		t.Fatal("an unknown name was taken")
	}
}
