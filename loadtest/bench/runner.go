package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"sluice/loadtest/bench/figures"
	"sluice/loadtest/bench/lab"
	"sluice/loadtest/bench/machine"
	"sluice/loadtest/bench/report"
)

// run measures the figures one after another. The first refusal ends it, so that no table is incomplete. Unless
// verbose, its progress shows no values, because a later refusal would invalidate them.
func run(ctx context.Context, l *lab.Lab, list []figures.Figure) ([]report.Row, error) {
	rows := make([]report.Row, 0, len(list))
	fmt.Fprintf(l.Log, "%d figures, %d rounds: about %s on a quiet machine with two cores\n", len(list), l.Opt.Rounds,
		figures.Estimate(list, l.Opt).Round(10*time.Second))
	for _, f := range list {
		began := time.Now()
		row, err := measure(ctx, l, f)
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", f.Name, f.Title, err)
		}
		rows = append(rows, row)
		fmt.Fprintf(l.Log, "%-16s measured (%s)\n", f.Name, time.Since(began).Round(time.Second))
		if l.Opt.Verbose {
			fmt.Fprintln(l.Log, report.Brief(row))
		}
	}
	return rows, nil
}

// measure measures both sides alternately: A B A B …
func measure(ctx context.Context, l *lab.Lab, f figures.Figure) (row report.Row, err error) {
	trial, err := f.Open(ctx, l)
	if err != nil {
		return row, err
	}
	if trial.Close != nil {
		defer func() { err = errors.Join(err, trial.Close()) }()
	}
	var sluice, yardstick []report.Reading
	for round := range l.Opt.Rounds {
		fmt.Fprintf(l.Log, "%-16s round %d of %d\n", f.Name, round+1, l.Opt.Rounds)
		if trial.Yardstick != nil {
			l.Calm(ctx)
			r, err := trial.Yardstick(ctx)
			if err != nil {
				return row, fmt.Errorf("yardstick, round %d: %w", round+1, err)
			}
			yardstick = append(yardstick, r)
		}
		l.Calm(ctx)
		r, err := trial.Sluice(ctx)
		if err != nil {
			return row, fmt.Errorf("sluice, round %d: %w", round+1, err)
		}
		sluice = append(sluice, r)
	}
	return figures.RowOf(f, sluice, yardstick), nil
}

// makeReport returns the result for the rows.
func makeReport(ctx context.Context, l *lab.Lab, quick bool, rows []report.Row) report.Result {
	versions := machine.Tools()
	maps.Copy(versions, l.Versions(ctx))
	return report.Result{Commit: l.Commit, Date: time.Now().UTC().Format(time.RFC3339), Quick: quick,
		Rounds:  l.Opt.Rounds,
		Seconds: l.Opt.Length.Seconds(), Machine: machine.ThisMachine(
			l.Dir), Versions: versions, Others: l.Neighbours.Share(), Rows: rows}
}

// show prints the result in the chosen form and saves it.
func show(out io.Writer, r report.Result, markdown bool, dir string) error {
	text := report.PlainTable(r)
	if markdown {
		text = report.MarkdownTable(r)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return r.Save(dir)
}
