package figures

import (
	"context"
	"math"
	"slices"

	"sluice/loadtest/bench/lab"
)

// search is a kind of job to try on a database, with a bound on its orders.
type search struct {
	kind, driver string
	most         int
}

// best returns the fastest way to run a job. Quick runs try less.
func (s search) best(ctx context.Context, l *lab.Lab, first lab.Job) (lab.Job, error) {
	tries := math.MaxInt
	if l.Opt.Scale < 1 {
		tries = 4
	}
	return climb(first, tries, func(j lab.Job) []lab.Job { return neighbouringJobs(j, s.driver, s.most) },
		func(j lab.Job) (float64, error) {
			r, err := j.Run(ctx, l, s.kind, s.driver)
			return r.Value, err
		})
}

// climb begins at first and moves to the fastest neighbour until all neighbours are slower. It gives up after tries
// runs.
func climb(first lab.Job, tries int, neighbours func(lab.Job) []lab.Job, run func(lab.Job) (float64, error)) (lab.Job,
	error) {
	fastest, most := first, 0.0
	tried := map[lab.Job]bool{}
	for next := []lab.Job{first}; len(next) > 0 && len(tried) < tries; {
		j := next[0]
		rate, err := run(j)
		if err != nil {
			return fastest, err
		}
		tried[j] = true
		if rate > most {
			fastest, most = j, rate
		}
		next = slices.DeleteFunc(neighbours(fastest), func(j lab.Job) bool { return tried[j] })
	}
	return fastest, nil
}

// neighbouringJobs returns the jobs that differ from j by one step of the batch size or of the writers. Each writer
// must have at least two batches. SQLite has one writer; a batch of one stays one.
func neighbouringJobs(j lab.Job, driver string, most int) []lab.Job {
	batches, writers := []int{50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000}, []int{1, 2, 4, 8, 16, 32,
		64, 128}
	var list []lab.Job
	add := func(batch, workers int) {
		if 2*batch*workers <= most {
			list = append(list, lab.Job{Orders: j.Orders, Batch: batch, Workers: workers})
		}
	}
	if j.Batch > 1 {
		for _, batch := range beside(batches, j.Batch) {
			add(batch, j.Workers)
		}
	}
	if driver != "sqlite" {
		for _, workers := range beside(writers, j.Workers) {
			add(j.Batch, workers)
		}
	}
	return list
}

// beside returns the steps after and before a step.
func beside(steps []int, step int) []int {
	at := slices.Index(steps, step)
	list := slices.Clone(steps[min(at+1, len(steps)):min(at+2, len(steps))])
	if at > 0 {
		list = append(list, steps[at-1])
	}
	return list
}
