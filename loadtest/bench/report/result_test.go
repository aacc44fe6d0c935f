package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCostIsTheMedianCPUTimeOfAUnit(t *testing.T) {
	t.Parallel()
	readings := []Reading{
		{Work: 1000, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
		{Work: 500, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
		{Work: 100, CPU: map[string]time.Duration{"sluice": 10 * time.Millisecond}},
	}
	if got := Costs(readings)["sluice"]; got != 20 {
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
	for _, text := range []string{PlainTable(example()), MarkdownTable(example())} {
		for _, want := range []string{"31,234 1/s", "50,000 1/s", "0.62 [0.60–0.65]", "at least 0.75", "NO",
			"332 [330–340]", "at most 400", "yes",
			"generator 9.0, redis 2.5, sluice 20.0 = 22.5; yardstick: gin 11.0", "memory: a note", "Commit abc<def"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	}
}

func TestSavedResultCanBeReadAndDrawn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	if err := example().Save(dir); err != nil {
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

func TestTableSaysThatOtherProgramsWereBusy(t *testing.T) {
	t.Parallel()
	busy, quiet := example(), example()
	busy.Others = 0.4
	const warning = "Other programs used 40% of the machine"
	if !strings.Contains(PlainTable(busy), warning) || strings.Contains(PlainTable(quiet), "Other programs") {
		t.Fatal(PlainTable(busy))
	}
}
