package coalesce

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// Batch is one queue's part of a call. Whoever sends it sets Err, and where that is nil as many answers as there are
// requests.
type Batch[Q, A any] struct {
	Key      string
	Requests []Q
	Answers  []A
	Err      error

	queue *keyQueue[Q, A]
	from  []*request[Q, A]
}

// call is the batches it carries, and how slow their queues are.
type call[Q, A any] struct {
	batches []Batch[Q, A]
	speed   speed
	probe   bool // of an unproven queue alone
}

// flushOwn makes one call for whoever waits now, the caller's queue among them, and leaves the next
// ones to a goroutine: a lone request has nobody to let by, and a goroutine and a channel between
// it and the store are a tenth of its time.
func (c *Coalescer[Q, A]) flushOwn(own *keyQueue[Q, A]) {
	f := c.next()
	switch {
	case f.batches == nil:
	case f.carries(own):
		c.flush(f)
		c.handOver()
	default: // it is others' turn, and their call may last
		go c.runFrom(f)
	}
}

func (f *call[Q, A]) carries(q *keyQueue[Q, A]) bool {
	return slices.ContainsFunc(f.batches, func(p Batch[Q, A]) bool { return p.queue == q })
}

// handOver leaves whoever waits by now to a goroutine, or ends the call.
func (c *Coalescer[Q, A]) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) > 0 {
		go c.run()
		return
	}
	c.endCall()
}

// run sends until nothing waits.
func (c *Coalescer[Q, A]) run() {
	// Whoever can run now joins this call instead of the next.
	runtime.Gosched()
	c.runFrom(c.next())
}

// runFrom sends f, and then until nothing waits.
func (c *Coalescer[Q, A]) runFrom(f call[Q, A]) {
	for f.batches != nil {
		c.flush(f)
		runtime.Gosched()
		f = c.next()
	}
}

// flush makes one call and hands out its answers. A call that panics answers ErrBroken to all it has not answered.
func (c *Coalescer[Q, A]) flush(f call[Q, A]) {
	// Detached from every caller: none of them may leave the others without an answer.
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	began := c.Now()
	for i := range f.batches {
		f.batches[i].Err = ErrBroken
	}
	defer func() {
		if cause := recover(); cause != nil {
			c.OnPanic(cause)
		}
		cancel()
		took := c.Now().Sub(began)
		answered := false
		for i := range f.batches {
			answered = f.batches[i].deliver() || answered
		}
		c.requeue(f, took, answered)
	}()
	c.Send(ctx, f.batches)
}

// deliver hands out the answers, and reports whether there were any.
func (p *Batch[Q, A]) deliver() bool {
	if p.Err == nil && len(p.Answers) != len(p.from) {
		p.Err = ErrBroken // it panicked in between
	}
	for i, w := range p.from {
		if p.Err != nil {
			w.err = p.Err
		} else {
			w.answer = p.Answers[i]
		}
		w.done <- struct{}{}
	}
	return p.Err == nil
}

// next returns the next call. It has no batches, and the caller's turn is over, when nobody waits who may go now.
func (c *Coalescer[Q, A]) next() (f call[Q, A]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := c.Now().Add(-2 * c.Timeout)
	room, first := c.PerCall, (*keyQueue[Q, A])(nil)
	stay := c.ready[:0]
	for _, q := range c.ready {
		if room <= 0 || f.probe || first == nil && !c.mayBegin(q) || first != nil && !c.mayJoin(q, first) {
			stay = append(stay, q)
			continue
		}
		q.ready = false
		p := q.fill(c.PerKey, late)
		if len(p.Requests) == 0 {
			continue
		}
		q.inFlight = true
		room -= len(p.Requests)
		f.batches = append(f.batches, p)
		if first == nil {
			first, f.speed, f.probe = q, q.speed, c.isProbe(q)
		}
	}
	clear(c.ready[len(stay):])
	c.ready = stay
	c.count(f)
	return f
}

// count counts a call, and sees to another for those who stay behind. Without batches it ends the
// call. The caller holds mu.
func (c *Coalescer[Q, A]) count(f call[Q, A]) {
	if f.batches == nil {
		c.endCall()
		return
	}
	if f.speed != quick {
		c.slow++
	}
	if f.probe {
		c.probing++
	}
	if len(c.ready) > 0 && c.inFlight < c.Calls {
		c.inFlight++
		go c.run()
	}
}

// endCall counts a call as ended. The caller holds mu.
func (c *Coalescer[Q, A]) endCall() {
	if c.inFlight--; c.inFlight == 0 {
		close(c.idle)
		c.idle = nil
	}
}

// requeue puts queues in which somebody came meanwhile at the end of the turn.
func (c *Coalescer[Q, A]) requeue(f call[Q, A], took time.Duration, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, batches := c.Now(), f.batches
	c.shared = len(batches) > 1 || len(batches[0].Requests) > 1
	c.record(f, took, answered)
	for i := range batches {
		c.classify(&batches[i], took, len(batches) > 1)
		q := batches[i].queue
		q.used = now
		if q.inFlight = false; q.length() > 0 {
			q.ready = true
			c.ready = append(c.ready, q)
		}
	}
}

// record takes a call out of the count, and notes how it went.
func (c *Coalescer[Q, A]) record(f call[Q, A], took time.Duration, answered bool) {
	swift := took <= c.Timeout/slowCall
	if swift && answered {
		c.lastQuick = c.Now()
	}
	if f.speed != quick {
		c.slow--
	}
	if f.probe {
		c.probing--
		if c.cleared = swift; !swift {
			c.probed = c.Now()
		}
	}
}
