// Command bench measures Sluice against yardsticks, in one run on one machine.
//
//	go run . [--quick] [--only NAME,NAME] [--rounds N] [--seconds S] [--markdown] [--verbose] [--out FOLDER]
//
// It builds Sluice, starts private stores that keep what they acknowledge, and lets Sluice and the yardsticks take
// turns. It prints a table and writes latest.json and latest.svg. It prints no value and exits with 1 if an audit was
// not clean or an answer was unexpected. So it does if the load generator was the bottleneck. The exit code is 2 on
// wrong usage. A missed target is no error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/bench/figures"
	"sluice/loadtest/bench/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "yardstick" {
		exit(yardsticks(ctx, os.Args[2:]))
	}
	exit(bench(ctx, os.Args[1:]))
}

// errUsage says that wrong usage was explained on standard error.
var errUsage = errors.New("wrong usage")

func exit(err error) {
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, errUsage):
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// settings is the parsed command line.
type settings struct {
	lab.Options
	quick, markdown bool
	source, out     string
	only            string
}

func parse(args []string) (settings, error) {
	var s settings
	var seconds int
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&s.quick, "quick", false, "one round of few and short measurements, less than three minutes in all")
	f.BoolVar(&s.markdown, "markdown", false, "print the table as Markdown")
	f.StringVar(&s.only, "only", "",
		"measure only these figures, with commas between: "+strings.Join(names(figures.Figures()),
			", "))
	f.IntVar(&s.Rounds, "rounds", 0, "rounds (default 5, quick 1)")
	f.IntVar(&seconds, "seconds", 0, "length of one measurement with wrk (default 2, quick 1)")
	f.BoolVar(&s.Verbose, "verbose", false,
		"tell each figure's values as soon as it is measured, even if the run is refused later")
	f.IntVar(&s.Threads, "threads", 2, "threads of wrk")
	f.StringVar(&s.source, "source", "../..", "folder of the Sluice to build and judge")
	f.StringVar(&s.out, "out", "results", "folder for latest.json and latest.svg")
	if err := f.Parse(args); err != nil {
		return s, errors.Join(errUsage, err)
	}
	if f.NArg() > 0 || s.Rounds < 0 || seconds < 0 || s.Threads < 1 {
		f.Usage()
		return s, errUsage
	}
	rounds, length := 5, 2
	s.Scale = 1
	if s.quick {
		rounds, length, s.Scale = 1, 1, 0.05
	}
	if s.Rounds == 0 {
		s.Rounds = rounds
	}
	if seconds == 0 {
		seconds = length
	}
	s.Length = time.Duration(seconds) * time.Second
	return s, nil
}

func bench(ctx context.Context, args []string) (err error) {
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := chosen(figures.Figures(), s.only)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return errUsage
	}
	l, err := lab.NewLab(ctx, s.Options, s.source, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	rows, err := run(ctx, l, list)
	if err != nil {
		return fmt.Errorf("no table: %w", err)
	}
	return show(os.Stdout, makeReport(ctx, l, s.quick, rows), s.markdown, s.out)
}

func names(list []figures.Figure) []string {
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	return names
}

// chosen returns the figures that only names, or all.
func chosen(all []figures.Figure, only string) ([]figures.Figure, error) {
	if only == "" {
		return all, nil
	}
	var list []figures.Figure
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, f := range all {
			if f.Name == strings.TrimSpace(name) {
				list, found = append(list, f), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--only knows %s, got %q", strings.Join(names(all), ", "), name)
		}
	}
	return list, nil
}
