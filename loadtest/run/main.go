// Command run is the load test of one machine. It builds Sluice, starts it with private stores, and runs k6 and the
// audit. It prints one page and writes a report with plots.
//
//	go run ./loadtest/run -k6 bin/k6
//
// Everything it leaves is in one folder, everything it started is stopped. The exit code is 0 if every rule and
// threshold held. It is 1 if one did not or a program could not be run, 2 on wrong usage. It judges from outside:
// nothing of Sluice's code is in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options is the parsed command line.
type options struct {
	k6, scripts, dir string
	source           string // of Sluice
	short            bool
	driver, dsn      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	opt := options{}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&opt.k6, "k6", "bin/k6", "the k6 to use")
	flags.StringVar(&opt.scripts, "scripts", "loadtest/k6", "folder of the scenarios")
	flags.StringVar(&opt.dir, "dir", "data/loadtest",
		"folder for logs, summaries and report.html; its state/ is emptied")
	flags.StringVar(&opt.source, "source", ".", "folder of Sluice's source, which is built")
	flags.BoolVar(&opt.short, "ci", false, "the short run of every submission: no whole journey, a lower peak")
	flags.StringVar(&opt.driver, "driver", "sqlite", "database.driver of the system under test")
	flags.StringVar(&opt.dsn, "dsn", "", "database.dsn of the system under test (default: a new SQLite file)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(errOut, "run: unknown argument %q\n", flags.Arg(0))
		return 2
	}
	verdict, err := loadtest(ctx, opt, out)
	if ctx.Err() != nil {
		err = errors.New("interrupted; what was started is stopped")
	}
	if err != nil {
		fmt.Fprintln(errOut, "loadtest:", err)
		return 1
	}
	if !verdict.passed() {
		return 1
	}
	return 0
}

// loadtest runs every scenario on one system and writes the report. An error means that there is no verdict.
func loadtest(ctx context.Context, opt options, out io.Writer) (v *verdict, err error) {
	if opt.dir, err = filepath.Abs(opt.dir); err != nil {
		return nil, err
	}
	s, err := startSystem(ctx, opt, out)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.kill()) }()
	v = &verdict{began: time.Now(), machine: describe(ctx, opt, s)}
	for _, one := range plan(opt.short) {
		if err := s.alive(); err != nil {
			v.broken = append(v.broken, err.Error())
			break
		}
		fmt.Fprintf(out, "loadtest: %s: %s\n", one.name, one.about)
		result, err := s.attack(ctx, opt, one)
		if err != nil {
			return nil, err
		}
		v.results = append(v.results, result)
	}
	v.addRun(s.audit(ctx), s.stop())
	v.report = filepath.Join(opt.dir, "report.html")
	if err := v.writeReport(); err != nil {
		return nil, err
	}
	return v, v.print(out)
}
