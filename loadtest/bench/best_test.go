package main

import (
	"math"
	"testing"
)

func TestTheSearchGoesOnUntilAllNeighboursAreSlower(t *testing.T) {
	t.Parallel()
	const most = 60_000
	// The fastest is at a batch size and a number of writers far from the first.
	rate := func(j job) (float64, error) {
		return 100 - math.Abs(math.Log(float64(j.batch)/2000)) - math.Abs(math.Log2(float64(j.workers)/1)), nil
	}
	for _, driver := range []string{"mysql", "postgres", "sqlite"} {
		first := job{orders: 30_000, batch: 500, workers: 4}
		if driver == "sqlite" {
			first.workers = 1
		}
		got, err := climb(first, math.MaxInt, func(j job) []job { return j.neighbours(driver, most) }, rate)
		if err != nil || got.batch != 2000 || got.workers != 1 {
			t.Errorf("%s: %+v, %v", driver, got, err)
		}
	}
}

func TestTheSearchOfAQuickLookIsBounded(t *testing.T) {
	t.Parallel()
	tried := 0
	_, err := climb(job{batch: 500, workers: 4}, 4, func(j job) []job { return j.neighbours("mysql", 60_000) },
		func(j job) (float64, error) { tried++; return float64(j.batch), nil })
	if err != nil || tried != 4 {
		t.Fatal(tried, err)
	}
}

func TestNeighboursLeaveEachWriterItsShare(t *testing.T) {
	t.Parallel()
	for _, j := range (job{batch: 5000, workers: 4}).neighbours("mysql", 60_000) {
		if 2*j.batch*j.workers > 60_000 {
			t.Errorf("%+v", j)
		}
	}
	for _, j := range (job{batch: 1, workers: 32}).neighbours("mysql", 10_000) {
		if j.batch != 1 {
			t.Errorf("one order in a transaction became %d", j.batch)
		}
	}
}
