package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
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
	Late      []time.Duration // how long after it was due each request was written to its connection
	Crowded   int             // shoppers who were due while all connections were in use
	Sent      time.Duration   // until the last request was written
	Took      time.Duration   // until the last one was answered
}

// Percentile of at least one value, which are sorted by it.
func Percentile(list []time.Duration, p int) time.Duration {
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

// Check refuses a load that was not really sent as its schedule says. What counts is when a request was written to a
// connection: a shopper who only waits inside the generator has not come.
func (v Visits) Check(a Arrivals) error {
	const culprit = "the generator was the bottleneck: "
	switch {
	case v.Crowded > 0:
		return Refuse(culprit+"%d of %d shoppers found all its %d connections in use", v.Crowded, a.Count,
			a.Connections)
	case float64(a.planned()) < leastOfRate*float64(v.Sent):
		return Refuse(culprit+"it took %s to send what its schedule has in %s", v.Sent.Round(time.Millisecond),
			a.planned())
	case Percentile(v.Late, 99) > mostPacing:
		return Refuse(culprit+"it was %s behind its schedule (p99), at most %s is accepted", Percentile(v.Late, 99),
			mostPacing)
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
	began  time.Time
	opened int64        // connections
	busy   atomic.Int64 // shoppers who are due and not yet answered
	mu     sync.Mutex
	visits Visits
	errs   chan error
}

// following is an accepted order whose owner wants to know.
type following struct {
	visit
	path string
}

// Arrive sends all shoppers and returns when the last one knows.
func Arrive(ctx context.Context, a Arrivals) (Visits, error) {
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
		c.run(ctx, &owners, &Caller{Addr: a.Addr}, c.wait)
	}
	// A server hangs up on a connection that brings no request for seconds: no more are opened than are used soon.
	c.opened = int64(min(a.Connections, max(1, int(firstUse.Seconds()*a.Rate))))
	connections := make([]*Caller, c.opened)
	for i := range connections {
		to := &Caller{Addr: a.Addr}
		if err := to.dial(ctx); err != nil {
			for _, opened := range connections[:i] {
				opened.Close()
			}
			close(c.due)
			close(c.follow)
			return Visits{}, err
		}
		connections[i] = to
	}
	c.began = time.Now()
	for _, to := range connections {
		c.run(ctx, &shoppers, to, c.shop)
	}
	c.pace(ctx)
	shoppers.Wait()
	c.visits.Took = time.Since(c.began)
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
func (c *crowd) run(ctx context.Context, group *sync.WaitGroup, to *Caller, work func(context.Context, *Caller) error) {
	group.Go(func() {
		defer to.Close()
		if err := work(ctx, to); err != nil {
			c.errs <- fmt.Errorf("open load: %w", err)
		}
	})
}

// pace sends shoppers on their way when they are due, and never waits for anything else.
func (c *crowd) pace(ctx context.Context) {
	defer close(c.due)
	interval := float64(time.Second) / c.Rate
	for n := range c.Count {
		due := c.began.Add(time.Duration(float64(n) * interval))
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		if c.busy.Add(1) > c.opened {
			c.visits.Crowded++ // only this loop writes it
		}
		c.due <- visit{n, due}
	}
}

// shop places the orders of those who are due, one at a time on its connection.
func (c *crowd) shop(ctx context.Context, to *Caller) error {
	request := make([]byte, c.Requests.Size)
	for v := range c.due {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := c.file.ReadAt(request, int64(v.n)*int64(c.Requests.Size)); err != nil {
			return err
		}
		a, err := to.Do(ctx, request)
		if err != nil {
			return err
		}
		c.busy.Add(-1)
		c.note(v, a, to.sent, time.Since(v.due))
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

// note keeps what became of a visit whose request was sent at a time and answered took after it was due.
func (c *crowd) note(v visit, a Answer, sent time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.visits.Status[a.Status]++
	c.visits.Late = append(c.visits.Late, sent.Sub(v.due))
	c.visits.Sent = max(c.visits.Sent, sent.Sub(c.began))
	if a.Status == 202 {
		c.visits.Accepted = append(c.visits.Accepted, took)
	}
}

// wait asks with long polls until the order is confirmed.
func (c *crowd) wait(ctx context.Context, to *Caller) error {
	for f := range c.follow {
		poll := []byte(PollRequest(f.path+"?wait=20s", f.n, time.Now()))
		for status := "queued"; status != "confirmed"; {
			if ctx.Err() != nil {
				return fmt.Errorf("an accepted order was not confirmed: %w", ctx.Err())
			}
			a, err := to.Do(ctx, poll)
			if err != nil {
				return err
			}
			var said struct{ Status string }
			if err := json.Unmarshal(a.Body, &said); err != nil || said.Status != "queued" &&
				said.Status != "processing" && said.Status != "confirmed" {
				return Refuse("an owner who waits was answered %d: %s", a.Status, a.Body)
			}
			status = said.Status
		}
		c.mu.Lock()
		c.visits.Confirmed = append(c.visits.Confirmed, time.Since(f.due))
		c.mu.Unlock()
	}
	return nil
}
