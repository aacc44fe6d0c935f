package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"sluice/loadtest/bench/machine"
)

// cells returns a row's columns for both forms of the table.
func (r Row) cells() []string {
	return []string{r.Title, Number(median(r.Sluice)) + " " + r.Unit, r.yardstick(), r.judged(), r.target(),
		r.verdict()}
}

func columns() []string {
	return []string{"figure", "Sluice", "yardstick", "judged: median [min–max]", "target", "reached"}
}

func (r Row) yardstick() string {
	if len(r.Yardstick) == 0 {
		return "–"
	}
	return Number(median(r.Yardstick)) + " " + r.Unit
}

// judged returns the ratio, or only the spread if the value itself has the target.
func (r Row) judged() string {
	show := func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
	if len(r.Yardstick) == 0 {
		show = Number
	}
	return fmt.Sprintf("%s [%s–%s]", show(r.Judged.Median), show(r.Judged.Min), show(r.Judged.Max))
}

func (r Row) target() string {
	switch {
	case r.AtLeast > 0:
		return "at least " + trimmed(r.AtLeast)
	case r.AtMost > 0:
		return "at most " + trimmed(r.AtMost)
	}
	return "–"
}

func (r Row) verdict() string {
	switch {
	case r.Reached == nil:
		return "–"
	case *r.Reached:
		return "yes"
	}
	return "NO"
}

// Brief returns a row as one line, for progress.
func Brief(r Row) string {
	return fmt.Sprintf("%s: %s, yardstick %s, judged %s, target %s: %s", r.Title, Number(median(r.Sluice))+" "+r.Unit,
		r.yardstick(), r.judged(), r.target(), r.verdict())
}

// PlainTable returns the table for a terminal.
func PlainTable(r Result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(columns(), "\t"))
	for _, row := range r.Rows {
		fmt.Fprintln(w, strings.Join(row.cells(), "\t"))
	}
	_ = w.Flush() // a strings.Builder never fails
	fmt.Fprintf(&b, "\nCPU time in µs for each order or request, by process; the sum is without the generator\n")
	for _, row := range r.Rows {
		if len(row.CPU) > 0 {
			fmt.Fprintf(w, "%s\t%s\n", row.Title, row.cost())
		}
	}
	_ = w.Flush()
	fmt.Fprintf(&b, "\n%s%s", notes(r, "  "), where(r))
	return b.String()
}

// MarkdownTable returns the table for docs/benchmarks.md.
func MarkdownTable(r Result) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line([]string{"figure", "yardstick", "Sluice", "of the yardstick", "judged: median [min–max]", "target", "reached"})
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|")
	for _, row := range r.Rows {
		c, against := row.cells(), row.Against
		if against == "" {
			against = "none: the value is judged"
			if row.Reached == nil {
				against = "none: shown only"
			}
		}
		line([]string{c[0], against, c[1], c[2], c[3], c[4], c[5]})
	}
	fmt.Fprintf(&b,
		"\n| CPU time for each order or request | µs by process, the sum without the generator |\n|---|---|\n")
	for _, row := range r.Rows {
		if len(row.CPU) > 0 {
			line([]string{row.Title, row.cost()})
		}
	}
	fmt.Fprintf(&b, "\n%s%s", notes(r, "- "), where(r))
	return b.String()
}

// cost lists the CPU time of each process of Sluice, their sum without the generator, and the yardstick's.
func (r Row) cost() string {
	text := spent(r.CPU)
	if len(r.Theirs) > 0 {
		text += "; yardstick: " + spent(r.Theirs)
	}
	return text
}

func spent(cpu map[string]float64) string {
	var parts []string
	all := 0.0
	for _, process := range slices.Sorted(maps.Keys(cpu)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", process, cpu[process]))
		if process != "generator" {
			all += cpu[process]
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return fmt.Sprintf("%s = %.1f", strings.Join(parts, ", "), all)
}

func notes(r Result, before string) string {
	var b strings.Builder
	for _, row := range r.Rows {
		if row.Note != "" {
			fmt.Fprintf(&b, "%s%s: %s\n", before, row.Title, row.Note)
		}
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// where describes the commit, the machine and the tools.
func where(r Result) string {
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, name+" "+r.Versions[name])
	}
	kind := ""
	if r.Quick {
		kind = "A quick look: fewer rounds and orders than the targets are about.\n"
	}
	if r.Others > machine.MostForeign {
		kind += fmt.Sprintf("Other programs used %.0f%% of the machine meanwhile: measure again when it is quiet.\n",
			100*r.Others)
	}
	return fmt.Sprintf("%sCommit %s, %s. %s, %d cores, %s, %s. %s. %d rounds of %gs.\n", kind, r.Commit, r.Date,
		r.Machine.CPU,
		r.Machine.Cores, r.Machine.OS, r.Machine.Disk, strings.Join(versions, ", "), r.Rounds, r.Seconds)
}

// Number formats v with three significant digits, or all digits of a large number, in groups.
func Number(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func trimmed(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
