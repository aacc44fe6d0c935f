package main

import (
	"go/parser"
	gotoken "go/token"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRequestsHaveOneLengthAndShoppersOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := testRequests(t, 50)
	first, err := r.At(0)
	if err != nil {
		t.Fatal(err)
	}
	last, err := r.At(49)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != len(last) || string(first) == string(last) {
		t.Fatal("the first and the last request must differ, but not in length")
	}
	if !strings.HasPrefix(string(last), "POST /v1/sales/bench/orders HTTP/1.1\r\n") ||
		!strings.HasSuffix(string(last), "\r\n\r\n{\"quantity\":1}") {
		t.Fatalf("%s", last)
	}
	addr := listen(t, func(w http.ResponseWriter, r *http.Request) { accept(w) })
	if a, err := ask(t.Context(), addr, last); err != nil || a.Status != 202 {
		t.Fatal(a, err)
	}
	unequal := func(n int, _ time.Time) string { return strings.Repeat("x", n+1) }
	if _, err := (&Lab{dir: t.TempDir()}).requests("unequal", 2, unequal); err == nil {
		t.Fatal("requests of two lengths were taken")
	}
}

func TestWrkSummaryIsRead(t *testing.T) {
	t.Parallel()
	d, err := parseDrive(
		[]byte("Running 1s test\nbench {\"requests\":500,\"duration\":2000000,\"refused\":3,\"broken\":0,\"ran_out\":0,\"p50\":120,\"p99\":900,\"max\":1000}\n"))
	if err != nil || d.Rate() != 250 || d.Refused != 3 || d.P50 != 120 {
		t.Fatal(d, err)
	}
	if _, err := parseDrive([]byte("unable to connect")); err == nil {
		t.Fatal("no summary is an error")
	}
}

func TestMetricsAreSummedByLabels(t *testing.T) {
	t.Parallel()
	m := parseMetrics("# HELP x y\nx{a=\"1\",b=\"2\"} 3\nx{a=\"1\",b=\"3\"} 4\nx_more{a=\"1\"} 100\nplain 1.5e+03\n")
	for _, c := range []struct {
		got, want float64
	}{{m.sum("x"), 7}, {m.sum("x", `b="3"`), 4}, {m.sum("x", `a="1"`, `b="2"`), 3}, {m.sum("plain"),
		1500}, {m.sum("none"), 0}} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

func TestCPUTimeOfATreeCountsChildrenThatLiveAndThatHaveEnded(t *testing.T) {
	t.Parallel()
	s, ok := parseStat("42 (a (strange) name) S 7 1 1 0 -1 4194560 100 0 0 0 10 20 30 40 20 0 1 0 5")
	if !ok || s.parent != 7 || s.cpu != time.Second {
		t.Fatalf("%+v", s)
	}
	all := map[int]procStat{1: {0, time.Second}, 2: {1, time.Second}, 3: {2, time.Second}, 4: {9, time.Second}}
	if got := treeCPU(all, 1); got != 3*time.Second {
		t.Fatal(got)
	}
	if _, ok := parseStat("42 (short) S 7"); ok {
		t.Fatal("half a line was taken")
	}
}

func TestUsedCPUIsOursAlone(t *testing.T) {
	t.Parallel()
	clock := startCPU(map[string][]int{"self": {os.Getpid()}})
	for end := time.Now().Add(60 * time.Millisecond); time.Now().Before(end); {
	}
	if used := clock.used()["self"]; used < clockTick || used > time.Minute {
		t.Fatal(used)
	}
}

func TestNeighboursAreCountedWithoutIdleTime(t *testing.T) {
	t.Parallel()
	if got := parseMachineCPU("cpu  100 20 30 5000 700 4 6 9 0 0"); got != 160*clockTick {
		t.Fatal(got)
	}
	busy, quiet := example(), example()
	busy.Others = 0.4
	const warning = "Other programs used 40% of the machine"
	if !strings.Contains(plainTable(busy), warning) || strings.Contains(plainTable(quiet), "Other programs") {
		t.Fatal(plainTable(busy))
	}
}

// The benchmark judges from outside: of Sluice's code it may use what starts stores, and no more.
func TestNothingOfSluiceIsImported(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("yardstick/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, more...) {
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if strings.HasPrefix(path, "sluice/") && path != "sluice/internal/testkit/servers" &&
				path != "sluice/loadtest/bench/yardstick" {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

// The job's own clock and that of the stores start together, however its words arrive.
func TestTheStoresClockStartsWhenTheJobIsReady(t *testing.T) {
	t.Parallel()
	c := &storeClock{pids: map[string][]int{"self": {os.Getpid()}}}
	for i, piece := range []string{"rea", "dy\n12 ", "34\n"} {
		if n, err := c.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
		if started := c.running != nil; started != (i > 0) {
			t.Fatalf("after %q the clock runs: %t", piece, started)
		}
	}
	if said := c.said.String(); said != "12 34\n" {
		t.Fatalf("%q is left of what the job said", said)
	}
}
