package lab

import (
	"net/http"
	"os"
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
	if a, err := Ask(t.Context(), addr, last); err != nil || a.Status != 202 {
		t.Fatal(a, err)
	}
	unequal := func(n int, _ time.Time) string { return strings.Repeat("x", n+1) }
	if _, err := (&Lab{Dir: t.TempDir()}).Requests("unequal", 2, unequal); err == nil {
		t.Fatal("requests of two lengths were taken")
	}
}

func TestWrkSummaryIsRead(t *testing.T) {
	t.Parallel()
	d, err := parseDrive(
		[]byte(
			"Running 1s test\nbench " +
				"{\"requests\":500,\"duration\":2000000,\"refused\":3,\"broken\":0,\"ran_out\":0,\"p50\":120," +
				"\"p99\":900,\"max\":1000}\n"))
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
	}{{m.Sum("x"), 7}, {m.Sum("x", `b="3"`), 4}, {m.Sum("x", `a="1"`, `b="2"`), 3}, {m.Sum("plain"),
		1500}, {m.Sum("none"), 0}} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

// TestTheStoresClockStartsWhenTheJobIsReady checks that both clocks start together, however the output is split.
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
