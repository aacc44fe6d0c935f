package coalesce

import (
	"context"
	"runtime"
	"slices"
	"time"
)

// Batch is one queue's part of a call. Config.Send sets Err, or else as many answers as there are requests.
type Batch[Q, A any] struct {
	Key      string
	Requests []Q
	Answers  []A
	Err      error

	queue *keyQueue[Q, A]
	from  []*request[Q, A]
}

// call is the batches of one call, with the speed of their queues.
type call[Q, A any] struct {
	batches []Batch[Q, A]
	speed   speed
	probe   bool // it has one unproven queue alone
}

// flushOwn makes one call for the waiting requests, the caller's queue among them. It leaves further calls to a
// goroutine. A goroutine and a channel for each lone request would cost a tenth of its time.
func (c *Coalescer[Q, A]) flushOwn(own *keyQueue[Q, A]) {
	f := c.next()
	switch {
	case f.batches == nil:
	case f.includes(own):
		c.flush(f)
		c.handOver()
	default: // other queues come first, and their call may last
		go c.runFrom(f)
	}
}

func (f *call[Q, A]) includes(q *keyQueue[Q, A]) bool {
	return slices.ContainsFunc(f.batches, func(p Batch[Q, A]) bool { return p.queue == q })
}

// handOver starts a goroutine for requests that wait by now, or ends the call.
func (c *Coalescer[Q, A]) handOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) > 0 {
		go c.run()
		return
	}
	c.endCall()
}

// run makes calls until nothing waits.
func (c *Coalescer[Q, A]) run() {
	// Callers that are ready to run join this call instead of the next.
	runtime.Gosched()
	c.runFrom(c.next())
}

// runFrom makes the call f, then further ones until nothing waits.
func (c *Coalescer[Q, A]) runFrom(f call[Q, A]) {
	for f.batches != nil {
		c.flush(f)
		runtime.Gosched()
		f = c.next()
	}
}

// flush makes one call and delivers its answers. After a panic it delivers ErrBroken to all without an answer.
func (c *Coalescer[Q, A]) flush(f call[Q, A]) {
	// The context is no caller's, because none may cancel the call of the others.
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

// deliver gives each request its answer and reports whether there were answers.
func (p *Batch[Q, A]) deliver() bool {
	if p.Err == nil && len(p.Answers) != len(p.from) {
		p.Err = ErrBroken // Send panicked after part of its work
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

// next returns the next call. It has no batches if no queue may go now; then the caller must stop.
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

// count counts a call and starts another one for the remaining queues. It ends a call without batches. The caller must
// hold mu.
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

// endCall counts a call as ended. The caller must hold mu.
func (c *Coalescer[Q, A]) endCall() {
	if c.inFlight--; c.inFlight == 0 {
		close(c.idle)
		c.idle = nil
	}
}

// requeue puts the call's queues that have new requests at the end of ready.
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

// record counts a call as ended and records how fast it was.
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
