package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"
)

// run measures the figures one after another. The first refusal ends it:
// there is no table with holes. What is told meanwhile holds no value, unless
// verbose: a run that is refused later must not have shown any.
func run(ctx context.Context, l *Lab, list []Figure) ([]Row, error) {
	rows := make([]Row, 0, len(list))
	fmt.Fprintf(l.log, "%d figures, %d rounds: about %s on a quiet machine with two cores\n", len(list), l.opt.Rounds,
		estimate(list, l.opt).Round(10*time.Second))
	for _, f := range list {
		began := time.Now()
		row, err := measure(ctx, l, f)
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", f.Name, f.Title, err)
		}
		rows = append(rows, row)
		fmt.Fprintf(l.log, "%-16s measured (%s)\n", f.Name, time.Since(began).Round(time.Second))
		if l.opt.Verbose {
			fmt.Fprintln(l.log, brief(row))
		}
	}
	return rows, nil
}

// measure lets both sides take turns: A B A B …
func measure(ctx context.Context, l *Lab, f Figure) (row Row, err error) {
	trial, err := f.Open(ctx, l)
	if err != nil {
		return row, err
	}
	if trial.Close != nil {
		defer func() { err = errors.Join(err, trial.Close()) }()
	}
	var sluice, yardstick []Reading
	for round := range l.opt.Rounds {
		fmt.Fprintf(l.log, "%-16s round %d of %d\n", f.Name, round+1, l.opt.Rounds)
		if trial.Yardstick != nil {
			l.calm(ctx)
			r, err := trial.Yardstick(ctx)
			if err != nil {
				return row, fmt.Errorf("yardstick, round %d: %w", round+1, err)
			}
			yardstick = append(yardstick, r)
		}
		l.calm(ctx)
		r, err := trial.Sluice(ctx)
		if err != nil {
			return row, fmt.Errorf("sluice, round %d: %w", round+1, err)
		}
		sluice = append(sluice, r)
	}
	return rowOf(f, sluice, yardstick), nil
}

// report makes the result of the rows.
func report(ctx context.Context, l *Lab, quick bool, rows []Row) Result {
	versions := tools()
	maps.Copy(versions, l.versions(ctx))
	return Result{Commit: l.commit, Date: time.Now().UTC().Format(time.RFC3339), Quick: quick, Rounds: l.opt.Rounds,
		Seconds: l.opt.Length.Seconds(), Machine: thisMachine(
			l.dir), Versions: versions, Others: l.neighbours.share(), Rows: rows}
}

// show prints the result in the form asked for and keeps it.
func show(out io.Writer, r Result, markdown bool, dir string) error {
	text := plainTable(r)
	if markdown {
		text = markdownTable(r)
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return r.save(dir)
}
