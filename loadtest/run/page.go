package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// row is a row of the page: a name, and a cell for each scenario.
type row struct {
	name  string
	cells []string
}

// print writes the one page.
func (v *verdict) print(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "\nSluice load test, %s\n%s\n\n", v.began.UTC().Format("2006-01-02 15:04 UTC"), v.machine)
	t := tabwriter.NewWriter(&text, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, r := range append([]row{{"", v.names()}}, v.rows()...) {
		fmt.Fprintf(t, "%s\t%s\t\n", pad(r.name), strings.Join(r.cells, "\t"))
	}
	_ = t.Flush() // a builder never fails
	fmt.Fprintf(&text, "\naudit    %s\nreport   %s\n", v.auditLine(), v.report)
	if v.passed() {
		text.WriteString("verdict  PASSED: every promise and every threshold held\n")
	} else {
		text.WriteString("verdict  FAILED\n")
	}
	for _, line := range v.allBroken() {
		fmt.Fprintf(&text, "  %s\n", line)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// pad pads a name on the right, because cells are aligned to the right.
func pad(name string) string { return fmt.Sprintf("%-27s", name) }

func (v *verdict) names() []string {
	return v.each(func(r result) string { return r.Scenario })
}

func (v *verdict) each(cell func(result) string) []string {
	cells := make([]string, len(v.results))
	for i, r := range v.results {
		cells[i] = cell(r)
	}
	return cells
}

// rows returns the table: counts by outcome, then latencies.
func (v *verdict) rows() []row {
	rows := []row{
		{"seconds", v.each(func(r result) string { return fmt.Sprintf("%.0f", r.Seconds) })},
		{"requests", v.each(func(r result) string { return count(r.Requests) })},
		{"admitted (202)", v.each(func(r result) string { return count(r.Admitted) })},
		{"replayed (202 again)", v.each(func(r result) string { return count(r.Replayed) })},
	}
	for _, code := range keysOf(v.results, func(r result) map[string]int64 { return r.Refused }) {
		rows = append(rows, row{"refused " + code, v.each(func(r result) string { return count(r.Refused[code]) })})
	}
	for _, status := range keysOf(v.results, func(r result) map[string]int64 { return r.Ended }) {
		rows = append(rows, row{status, v.each(func(r result) string { return count(r.Ended[status]) })})
	}
	rows = append(rows, row{"arrivals not sent", v.each(func(r result) string { return count(r.Dropped) })})
	for _, outcome := range keysOf(v.results, func(r result) map[string]trend { return r.Latency }) {
		rows = append(rows, row{"answer " + outcome + ", ms",
			v.each(func(r result) string { return spread(r.Latency[outcome]) })})
	}
	return append(rows,
		row{"click to confirmed, ms", v.each(func(r result) string { return spread(r.Confirmed) })},
		row{"place-in-line error, ms", v.each(func(r result) string { return spread(r.PlaceError) })},
		row{"broken", v.each(func(r result) string { return count(int64(len(r.Broken))) })})
}

// keysOf returns the names that occur in any result, sorted.
func keysOf[V any](results []result, of func(result) map[string]V) []string {
	all := map[string]bool{}
	for _, r := range results {
		for name := range of(r) {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func count(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// spread returns "p50 / p99".
func spread(t trend) string {
	if len(t) == 0 {
		return "-"
	}
	return millis(t["med"]) + " / " + millis(t["p(99)"])
}

func millis(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (v *verdict) auditLine() string {
	if problems := v.audit.problems(); len(problems) > 0 {
		return fmt.Sprintf("NOT CLEAN, %d problems", len(problems))
	}
	live, total := v.audit.sold()
	return fmt.Sprintf("clean: %d sales, %d of %d units sold, every unit accounted for", len(v.audit.Sales), live,
		total)
}
