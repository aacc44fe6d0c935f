package main

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

	"github.com/stretchr/testify/require"
)

func testVerdict(t *testing.T) *verdict {
	t.Helper()
	var smoke, bell result
	require.NoError(t, json.Unmarshal([]byte(goodSummary), &smoke))
	smoke.Scenario = "smoke"
	bell = smoke
	bell.Scenario, bell.Refused = "opening bell", map[string]int64{"queue_full": 7}
	bell.Facts = map[string]any{"units": 500}
	for i := range 5 {
		bell.samples = append(bell.samples, sample{at: time.Unix(int64(i), 0), admitted: float64(100 * i),
			depth: float64(3 * i)})
	}
	v := &verdict{began: time.Unix(1_790_000_000, 0), machine: "a <machine>", results: []result{smoke, bell},
		report: filepath.Join(t.TempDir(), "report.html")}
	v.addRun(audit{Verdict: "clean"}, nil)
	return v
}

func TestThePage(t *testing.T) {
	t.Parallel()
	v := testVerdict(t)
	var out strings.Builder
	require.NoError(t, v.print(&out))
	for _, row := range []string{`admitted \(202\) +10 +10`, `refused queue_full +- +7`, `refused sold_out +5 +-`,
		`confirmed +10 +10`,
		`answer admitted, ms +2\.2 / 12 +2\.2 / 12`, `place-in-line error, ms +990 / 1000`,
		`click to confirmed, ms +- +-`} {
		require.Regexp(t, row, out.String())
	}
	require.Contains(t, out.String(), "verdict  PASSED")
	require.True(t, v.passed())
}

func TestWhateverBrokeFailsTheRun(t *testing.T) {
	t.Parallel()
	var unclean audit
	require.NoError(t,
		json.Unmarshal(
			[]byte(`{"clean":false,"sales":[{"sale":"s","problems":["ledger and line differ by 3 units"]}]}`),
			&unclean))
	var oversold audit
	require.NoError(t, json.Unmarshal([]byte(`{"clean":true,"sales":[{"sale":"s","total":500,"live":612}]}`),
		&oversold))
	for name, c := range map[string]struct {
		broken []string
		audit  audit
		stop   error
		want   string
	}{
		"scenario": {[]string{"lost: 37 orders answered 202 never reached a final status"},
			audit{Verdict: "clean"}, nil, "opening bell: lost: 37 orders"},
		"audit":             {nil, unclean, nil, "audit of s: ledger and line differ by 3 units"},
		"more than all":     {nil, oversold, nil, "oversold: s sold 612 units of 500"},
		"audit, no reason":  {nil, audit{Verdict: "unknown"}, nil, "the audit's verdict is unknown"},
		"no audit":          {nil, audit{err: errors.New("connection refused")}, nil, "connection refused"},
		"unorderly stopped": {nil, audit{Verdict: "clean"}, errors.New("exit status 1"), "exit status 1"},
	} {
		v := testVerdict(t)
		v.results[1].Broken = c.broken
		v.addRun(c.audit, c.stop)
		require.False(t, v.passed(), name)
		var out strings.Builder
		require.NoError(t, v.print(&out))
		require.Contains(t, out.String(), "verdict  FAILED\n  "+c.want, name)
	}
}

func TestTheReportNeedsNothingElse(t *testing.T) {
	t.Parallel()
	v := testVerdict(t)
	v.results[0].Broken = []string{"user <b>x</b> holds 2"}
	require.NoError(t, v.writeReport())
	text, err := os.ReadFile(v.report)
	require.NoError(t, err)
	require.NotRegexp(t, `(?i)https?:|src=|@import|<script`, string(text))
	require.Contains(t, string(text), "a &lt;machine&gt;")
	require.Contains(t, string(text), "user &lt;b&gt;x&lt;/b&gt; holds 2")
	require.Equal(t, 4, strings.Count(string(text), "<svg"),
		"percentiles of both, rates and depth of the one with samples")
}

func TestAChart(t *testing.T) {
	t.Parallel()
	c := chart{title: "a < b", x: "seconds", series: []series{{"x & y", []point{{0, 0}, {10, 100}}}}}
	drawing := string(c.svg())
	for decoder := xml.NewDecoder(strings.NewReader(drawing)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
	require.Contains(t, drawing, `points="56.0,226.0 628.0,44.0"`, "from the lower left to the upper right")

	c = chart{logarithmic: true, names: []string{"p50", "max"}, series: []series{{"s", []point{{0, 0.1}, {1, 1000}}}}}
	require.Contains(t, string(c.svg()), `points="56.0,226.0 628.0,44.0"`)
	require.NotContains(t, string(chart{}.svg()), "NaN", "nothing was measured")
	for v, want := range map[float64]float64{1: 1, 3: 4, 6: 8, 9: 10, 41: 50, 1001: 2000} {
		require.InDelta(t, want, roundUp(v), 1e-9)
	}
}

func TestReadMetrics(t *testing.T) {
	t.Parallel()
	got, err := readMetrics(
		strings.NewReader(
			"# HELP sluice_queue_depth x\nsluice_queue_depth{sale=\"a\"} 4\nsluice_queue_depth{sale=\"b\"} 3\n"+
				"sluice_orders_rejected_total{code=\"sold_out\",sale=\"a\"} "+
				"1.5e+03\nsluice_orders_admitted_totally{sale=\"a\"} 9\n"), time.Unix(5, 0))
	require.NoError(t, err)
	require.Equal(t, sample{at: time.Unix(5, 0), refused: 1500, depth: 7}, got)
}

func TestPerSecond(t *testing.T) {
	t.Parallel()
	v := testVerdict(t)
	got := perSecond(v.results[1].samples, func(s sample) float64 { return s.admitted })
	require.Equal(t, []point{{2, 100}, {3, 100}, {4, 100}}, got)
	same := []sample{{}, {}, {}}
	require.Empty(t, perSecond(same, func(s sample) float64 { return s.admitted }), "no time passed")
}
