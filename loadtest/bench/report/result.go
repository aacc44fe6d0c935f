// Package report turns readings into rows and formats them as tables, JSON and a chart.
package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"sluice/loadtest/bench/machine"
)

// Result is the result of one run of the benchmark.
type Result struct {
	Commit   string            `json:"commit"`
	Date     string            `json:"date"`
	Quick    bool              `json:"quick"` // fewer rounds and orders than for the targets
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"` // of one measurement
	Machine  machine.Machine   `json:"machine"`
	Versions map[string]string `json:"versions"`
	Others   float64           `json:"others"` // share of the machine that other programs used meanwhile, 0 to 1
	Rows     []Row             `json:"rows"`
}

// Row is one figure, measured.
type Row struct {
	Name      string             `json:"name"`
	Title     string             `json:"title"`
	Against   string             `json:"against,omitempty"`
	Unit      string             `json:"unit"`
	Sluice    []float64          `json:"sluice"`              // one value for each round
	Yardstick []float64          `json:"yardstick,omitempty"` // of the same rounds
	Judged    Summary            `json:"judged"`              // the ratios of the rounds, or the values
	AtLeast   float64            `json:"at_least,omitempty"`
	AtMost    float64            `json:"at_most,omitempty"`
	Reached   *bool              `json:"reached,omitempty"` // absent: there is no target
	CPU       map[string]float64 `json:"cpu_us_per_unit,omitempty"`
	Theirs    map[string]float64 `json:"yardstick_cpu_us_per_unit,omitempty"`
	Note      string             `json:"note,omitempty"`
}

// Summary summarises one value for each round.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Summarize returns median and range of values, which must not be empty.
func Summarize(values []float64) Summary {
	return Summary{Median: median(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// median returns the median of values, which must not be empty. For an even number it is the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Values returns the readings' values.
func Values(readings []Reading) []float64 {
	var list []float64
	for _, r := range readings {
		list = append(list, r.Value)
	}
	return list
}

// Costs returns the median CPU time in µs that each process spent on a unit of work.
func Costs(readings []Reading) map[string]float64 {
	spent := map[string][]float64{}
	for _, r := range readings {
		for process, cpu := range r.CPU {
			spent[process] = append(spent[process], float64(cpu.Microseconds())/r.Work)
		}
	}
	if len(spent) == 0 {
		return nil
	}
	found := map[string]float64{}
	for process, list := range spent {
		found[process] = median(list)
	}
	return found
}

// Save writes latest.json and latest.svg into dir.
func (r Result) Save(dir string) error {
	// #nosec G301 -- results are for everybody
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	// #nosec G306 -- results are for everybody
	if err := os.WriteFile(filepath.Join(dir, "latest.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	// #nosec G306 -- results are for everybody
	return os.WriteFile(filepath.Join(dir, "latest.svg"), []byte(chart(r)), 0o644)
}
