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

// Arrivals is an open load: shoppers come by a fixed schedule, even if earlier ones have no answer yet. Times are
// measured from the scheduled arrival, so that a slow answer cannot hide later ones.
type Arrivals struct {
	Addr        string
	Requests    Requests
	Rate        float64 // shoppers per second
	Count       int
	Connections int
	FollowEvery int // one of that many accepted shoppers waits for the confirmation; 0: none
}

// Visits is the outcomes of an open load.
type Visits struct {
	Status    map[int]int
	Accepted  []time.Duration // until the 202
	Confirmed []time.Duration // until the owner's poll said confirmed
	Late      []time.Duration // delay between schedule and writing each request
	Crowded   int             // shoppers due while all connections were in use
	Sent      time.Duration   // until the last request was written
	Took      time.Duration   // until the last one was answered
}

// Percentile sorts the list, which must not be empty, and returns its percentile p.
func Percentile(list []time.Duration, p int) time.Duration {
	slices.Sort(list)
	return list[min(len(list)-1, len(list)*p/100)]
}

const (
	followers      = 256
	firstUse       = 2 * time.Second
	arrivePatience = 2 * time.Minute       // beyond the schedule
	mostPacing     = 25 * time.Millisecond // 99 of 100 requests must be written within this time
	leastOfRate    = 0.95                  // least part of the schedule's rate that must be sent
)

func (a Arrivals) planned() time.Duration {
	return time.Duration(float64(a.Count) / a.Rate * float64(time.Second))
}

// Check refuses a load that was not sent according to its schedule. A request counts as sent when it is written to a
// connection.
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

// visit is one due shopper.
type visit struct {
	n   int
	due time.Time
}

// openLoad is a running open load.
type openLoad struct {
	Arrivals
	file   *os.File
	due    chan visit
	follow chan following
	began  time.Time
	opened int64        // connections
	busy   atomic.Int64 // shoppers who are due and have no answer yet
	mu     sync.Mutex
	visits Visits
	errs   chan error
}

// following is an accepted order whose owner polls for the confirmation.
type following struct {
	visit
	path string
}

// Arrive sends all shoppers and returns when the last has its outcome.
func Arrive(ctx context.Context, a Arrivals) (Visits, error) {
	f, err := os.Open(a.Requests.File)
	if err != nil {
		return Visits{}, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, a.planned()+arrivePatience)
	defer cancel()
	c := &openLoad{Arrivals: a, file: f, due: make(chan visit, a.Count), follow: make(chan following, a.Count),
		visits: Visits{Status: map[int]int{}}, errs: make(chan error, a.Connections+followers)}
	var shoppers, owners sync.WaitGroup
	for range followers {
		c.run(ctx, &owners, &Caller{Addr: a.Addr}, c.wait)
	}
	// A server closes a connection without a request for seconds, so only those that are used soon are opened.
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
		c.run(ctx, &shoppers, to, c.placeOrders)
	}
	c.schedule(ctx)
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
func (c *openLoad) run(ctx context.Context, group *sync.WaitGroup, to *Caller, work func(context.Context,
	*Caller) error) {
	group.Go(func() {
		defer to.Close()
		if err := work(ctx, to); err != nil {
			c.errs <- fmt.Errorf("open load: %w", err)
		}
	})
}

// schedule queues shoppers when they are due, and waits for nothing else.
func (c *openLoad) schedule(ctx context.Context) {
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
			c.visits.Crowded++ // only this loop writes the field
		}
		c.due <- visit{n, due}
	}
}

// placeOrders places the orders of due shoppers, one at a time on its connection.
func (c *openLoad) placeOrders(ctx context.Context, to *Caller) error {
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
		c.record(v, a, to.sent, time.Since(v.due))
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

// record stores the outcome of a visit. sent is when its request was written, took the time from its schedule to the
// answer.
func (c *openLoad) record(v visit, a Answer, sent time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.visits.Status[a.Status]++
	c.visits.Late = append(c.visits.Late, sent.Sub(v.due))
	c.visits.Sent = max(c.visits.Sent, sent.Sub(c.began))
	if a.Status == 202 {
		c.visits.Accepted = append(c.visits.Accepted, took)
	}
}

// wait sends long polls until the order is confirmed.
func (c *openLoad) wait(ctx context.Context, to *Caller) error {
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
