package figures

import (
	"math"
	"testing"

	"sluice/loadtest/bench/lab"
)

func TestTheSearchGoesOnUntilAllNeighboursAreSlower(t *testing.T) {
	t.Parallel()
	const most = 60_000
	// The fastest is at a batch size and a number of writers far from the first.
	rate := func(j lab.Job) (float64, error) {
		return 100 - math.Abs(math.Log(float64(j.Batch)/2000)) - math.Abs(math.Log2(float64(j.Workers)/1)), nil
	}
	for _, driver := range []string{"mysql", "postgres", "sqlite"} {
		first := lab.Job{Orders: 30_000, Batch: 500, Workers: 4}
		if driver == "sqlite" {
			first.Workers = 1
		}
		got, err := climb(first, math.MaxInt, func(j lab.Job) []lab.Job { return neighbouringJobs(j, driver, most) },
			rate)
		if err != nil || got.Batch != 2000 || got.Workers != 1 {
			t.Errorf("%s: %+v, %v", driver, got, err)
		}
	}
}

func TestTheSearchOfAQuickLookIsBounded(t *testing.T) {
	t.Parallel()
	tried := 0
	_, err := climb(lab.Job{Batch: 500, Workers: 4}, 4, func(j lab.Job) []lab.Job {
		return neighbouringJobs(j, "mysql",
			60_000)
	},
		func(j lab.Job) (float64, error) { tried++; return float64(j.Batch), nil })
	if err != nil || tried != 4 {
		t.Fatal(tried, err)
	}
}

func TestNeighboursLeaveEachWriterItsShare(t *testing.T) {
	t.Parallel()
	for _, j := range neighbouringJobs((lab.Job{Batch: 5000, Workers: 4}), "mysql", 60_000) {
		if 2*j.Batch*j.Workers > 60_000 {
			t.Errorf("%+v", j)
		}
	}
	for _, j := range neighbouringJobs((lab.Job{Batch: 1, Workers: 32}), "mysql", 10_000) {
		if j.Batch != 1 {
			t.Errorf("one order in a transaction became %d", j.Batch)
		}
	}
}
