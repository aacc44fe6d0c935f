package figures

import (
	"context"
	"time"

	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/report"
)

// Figure is one row of the table.
type Figure struct {
	Name    string // for --only
	Title   string // what is measured on Sluice
	Against string // what the same is measured on; empty: the value itself has a target
	Unit    string // of both values
	Target  report.Target
	Effort  Effort // for the estimate
	Open    func(ctx context.Context, l *lab.Lab) (Trial, error)
}

// Trial measures one figure. Its sides are called alternately, round after round.
type Trial struct {
	Yardstick func(ctx context.Context) (report.Reading, error) // nil: the value itself has a target
	Sluice    func(ctx context.Context) (report.Reading, error)
	Close     func() error // may be nil
}

// Effort is how long a figure takes on a quiet machine with two cores and the default length. Only Estimate uses it.
type Effort struct {
	Once, Round time.Duration
}

const (
	someEffort = 15 * time.Second // of a round nobody has timed
	leastScale = 0.25             // of an effort, however few the orders: systems start and stop
)

// Estimate returns roughly how long the figures take.
func Estimate(list []Figure, opt lab.Options) time.Duration {
	var all time.Duration
	for _, f := range list {
		round := f.Effort.Round
		if round == 0 {
			round = someEffort
		}
		all += f.Effort.Once + time.Duration(opt.Rounds)*round
	}
	return time.Duration(float64(all) * max(opt.Scale, leastScale))
}

// RowOf returns the row for the readings of all rounds. Ratios are formed within each round, so that a slow moment
// affects both sides.
func RowOf(f Figure, sluice, yardstick []report.Reading) report.Row {
	r := report.Row{Name: f.Name, Title: f.Title, Against: f.Against, Unit: f.Unit, AtLeast: f.Target.AtLeast,
		AtMost: f.Target.AtMost,
		Sluice: report.Values(sluice), Yardstick: report.Values(yardstick),
		CPU: report.Costs(sluice), Theirs: report.Costs(yardstick), Note: sluice[0].Note}
	judged := r.Sluice
	if len(yardstick) > 0 {
		judged = make([]float64, len(r.Sluice))
		for i := range judged {
			judged[i] = r.Sluice[i] / r.Yardstick[i]
		}
	}
	r.Judged = report.Summarize(judged)
	if f.Target.Judged() {
		reached := f.Target.Reached(r.Judged.Median)
		r.Reached = &reached
	}
	return r
}
