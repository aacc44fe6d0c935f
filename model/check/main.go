// Command check checks every state of the model of the line, and that each planted fault is found.
//
//	go run ./model/check              checks all, one line each
//	go run ./model/check -show NAME   also prints the steps that lead to a planted fault
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"time"

	"sluice/model"
)

// atOnce is how many instances are checked at the same time, each with up to 3 GB of memory.
const atOnce = 2

func main() {
	show := flag.String("show", "", "print the steps that lead to this planted fault")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Stdout, *show)
	stop()
	os.Exit(code)
}

// run checks every instance and returns the exit code: 1 if one is not as expected.
func run(ctx context.Context, out io.Writer, show string) int {
	started := time.Now()
	instances := model.Instances()
	failed, turns := 0, make(chan struct{}, min(atOnce, runtime.NumCPU()))
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, i := range instances {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			r, err := model.Check(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			if !report(out, i, r, err, i.Name == show) {
				failed++
			}
		})
	}
	all.Wait()
	took := time.Since(started).Seconds()
	fmt.Fprintf(out, "%d instances, %d not as they must be, %.0f s\n", len(instances), failed, took)
	if failed > 0 {
		return 1
	}
	return 0
}

// report prints one line about an instance and reports whether it is as expected.
func report(out io.Writer, i model.Instance, r model.Result, err error, steps bool) bool {
	verdict, kind := "holds", "model"
	if i.Broken {
		verdict, kind = "found", "fault"
	}
	if err == nil {
		err = i.Expect(r)
	}
	if err != nil {
		verdict = "WRONG"
	}
	fmt.Fprintf(out, "%s  %-22s %s  %9d states %5.1f s  %s\n", kind, i.Name, verdict, r.States, r.Took.Seconds(),
		i.Says)
	if err != nil {
		fmt.Fprintln(out, "   ", err)
		return false
	}
	if steps {
		for _, step := range r.Steps {
			fmt.Fprintln(out, "   ", step)
		}
		fmt.Fprintln(out, "   ", r.Violation)
	}
	return true
}
