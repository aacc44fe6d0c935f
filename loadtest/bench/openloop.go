package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Arrivals is an open load: shoppers come by a fixed schedule, whether or not
// earlier ones have been answered, and every time is measured from the moment a
// shopper should have come. A slow answer thus cannot hide the ones behind it.
type Arrivals struct {
	Addr        string
	Requests    Requests
	Rate        float64 // shoppers per second
	Count       int
	Connections int
	FollowEvery int // of so many accepted shoppers one waits for the confirmation; 0: none
}

// Visits is what became of them.
type Visits struct {
	Status    map[int]int
	Accepted  []time.Duration // until the 202
	Confirmed []time.Duration // until the owner was told "confirmed"
	Late      []time.Duration // how far behind its schedule the generator itself was
	Sent      time.Duration   // until the last one was on the way
	Took      time.Duration   // until the last one was answered
}

// percentile of at least one value, which are sorted by it.
func percentile(list []time.Duration, p int) time.Duration {
	slices.Sort(list)
	return list[min(len(list)-1, len(list)*p/100)]
}

const (
	followers      = 256
	firstUse       = 2 * time.Second
	arrivePatience = 2 * time.Minute       // beyond the schedule
	mostPacing     = 25 * time.Millisecond // 99 of 100 shoppers must be sent on their way within it
	leastOfRate    = 0.95                  // of the schedule's rate that must have been sent
)

func (a Arrivals) planned() time.Duration {
	return time.Duration(float64(a.Count) / a.Rate * float64(time.Second))
}

// check refuses a load that was not sent at its rate.
func (v Visits) check(a Arrivals) error {
	if float64(a.planned()) < leastOfRate*float64(v.Sent) {
		return refuse("the generator was the bottleneck: it took %s to send what its schedule has in %s", v.Sent.Round(time.Millisecond), a.planned())
	}
	return nil
}

// punctual also refuses one whose shoppers were late by the generator's own fault. A time that is measured from when they
// should have come holds that delay; where a long time is to our disadvantage, check is enough.
func (v Visits) punctual(a Arrivals) error {
	if err := v.check(a); err != nil {
		return err
	}
	if percentile(v.Late, 99) > mostPacing {
		return refuse("the generator was the bottleneck: it was %s behind its schedule (p99), at most %s is accepted", percentile(v.Late, 99), mostPacing)
	}
	return nil
}

// visit is one shopper on the way.
type visit struct {
	n   int
	due time.Time
}

// crowd is a running open load.
type crowd struct {
	Arrivals
	file   *os.File
	due    chan visit
	follow chan following
	mu     sync.Mutex
	visits Visits
	errs   chan error
}

// following is an accepted order whose owner wants to know.
type following struct {
	visit
	path string
}

// arrive sends all shoppers and returns when the last one knows.
func arrive(ctx context.Context, a Arrivals) (Visits, error) {
	f, err := os.Open(a.Requests.File)
	if err != nil {
		return Visits{}, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, a.planned()+arrivePatience)
	defer cancel()
	c := &crowd{Arrivals: a, file: f, due: make(chan visit, a.Count), follow: make(chan following, a.Count),
		visits: Visits{Status: map[int]int{}}, errs: make(chan error, a.Connections+followers)}
	var shoppers, owners sync.WaitGroup
	for range followers {
		c.run(ctx, &owners, &caller{addr: a.Addr}, c.wait)
	}
	// A server hangs up on a connection that brings no request for seconds: no more are opened than are used soon.
	for range min(a.Connections, max(1, int(firstUse.Seconds()*a.Rate))) {
		to := &caller{addr: a.Addr}
		if err := to.dial(ctx); err != nil {
			close(c.due)
			close(c.follow)
			return Visits{}, err
		}
		c.run(ctx, &shoppers, to, c.shop)
	}
	began := time.Now()
	c.pace(ctx, began)
	c.visits.Sent = time.Since(began)
	shoppers.Wait()
	c.visits.Took = time.Since(began)
	close(c.follow)
	owners.Wait()
	select {
	case err := <-c.errs:
		return c.visits, err
	default:
		return c.visits, ctx.Err()
	}
}

// run starts a worker on a connection.
func (c *crowd) run(ctx context.Context, group *sync.WaitGroup, to *caller, work func(context.Context, *caller) error) {
	group.Go(func() {
		defer to.close()
		if err := work(ctx, to); err != nil {
			c.errs <- fmt.Errorf("open load: %w", err)
		}
	})
}

// pace sends shoppers on their way when they are due, and never waits for anything else.
func (c *crowd) pace(ctx context.Context, began time.Time) {
	defer close(c.due)
	interval := float64(time.Second) / c.Rate
	for n := range c.Count {
		due := began.Add(time.Duration(float64(n) * interval))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		c.visits.Late = append(c.visits.Late, time.Since(due))
		c.due <- visit{n, due}
	}
}

// shop places the orders of those who are due, one at a time on its connection.
func (c *crowd) shop(ctx context.Context, to *caller) error {
	request := make([]byte, c.Requests.Size)
	for v := range c.due {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := c.file.ReadAt(request, int64(v.n)*int64(c.Requests.Size)); err != nil {
			return err
		}
		a, err := to.do(ctx, request)
		if err != nil {
			return err
		}
		took := time.Since(v.due)
		c.mu.Lock()
		c.visits.Status[a.Status]++
		if a.Status == 202 {
			c.visits.Accepted = append(c.visits.Accepted, took)
		}
		c.mu.Unlock()
		if a.Status == 202 && c.FollowEvery > 0 && v.n%c.FollowEvery == 0 {
			path, err := pathOf(a)
			if err != nil {
				return err
			}
			c.follow <- following{v, path}
		}
	}
	return nil
}

// wait asks with long polls until the order is confirmed.
func (c *crowd) wait(ctx context.Context, to *caller) error {
	for f := range c.follow {
		poll := []byte(pollRequest(f.path+"?wait=20s", f.n, time.Now()))
		for status := "queued"; status != "confirmed"; {
			if ctx.Err() != nil {
				return fmt.Errorf("an accepted order was not confirmed: %w", ctx.Err())
			}
			a, err := to.do(ctx, poll)
			if err != nil {
				return err
			}
			var said struct{ Status string }
			if err := json.Unmarshal(a.Body, &said); err != nil || said.Status != "queued" && said.Status != "processing" && said.Status != "confirmed" {
				return refuse("an owner who waits was answered %d: %s", a.Status, a.Body)
			}
			status = said.Status
		}
		c.mu.Lock()
		c.visits.Confirmed = append(c.visits.Confirmed, time.Since(f.due))
		c.mu.Unlock()
	}
	return nil
}
