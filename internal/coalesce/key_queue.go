package coalesce

import (
	"context"
	"slices"
	"time"
)

const (
	slowCall  = 10                     // a call is slow after this fraction (1/n) of its timeout
	alike     = 4                      // factor between the times of calls that count as equally slow
	queueIdle = time.Minute            // how long an unused queue stays
	leftEvery = 100 * time.Millisecond // how often a full queue checks for callers that have hung up
)

// keyQueue is the requests of one key that wait for a call. Quick queues share calls with quick ones, slow ones with
// equally slow ones. A queue whose last call failed goes alone. While some queues are quick, slow ones leave them one
// call. After a slow call of several queues it is unknown which was slow. So now and then one of them is sent alone as
// a probe. While probes are quick, further ones follow.
type keyQueue[Q, A any] struct {
	key      string
	waiting  []*request[Q, A]
	gone     int           // requests in waiting whose callers have hung up
	ready    bool          // it is in ready
	inFlight bool          // a call with its requests is in flight
	took     time.Duration // how long how long its last call took took
	speed    speed
	unproven bool      // it was slow in a shared call only
	used     time.Time // when how long how long its last call took took ended
	asked    time.Time // when it last checked for callers that have hung up
}

// speed classifies the last call of a queue.
type speed int

const (
	quick speed = iota
	slow
	failing // slow, and its own batch failed
)

// length returns how many requests still wait.
func (q *keyQueue[Q, A]) length() int { return len(q.waiting) - q.gone }

// fill moves the oldest requests of a queue into a batch. It drops those whose callers have gone and refuses those that
// have waited too long.
func (q *keyQueue[Q, A]) fill(most int, late time.Time) Batch[Q, A] {
	n := min(most, q.length())
	p := Batch[Q, A]{Key: q.key, queue: q, Requests: make([]Q, 0, n), from: make([]*request[Q, A], 0, n)}
	taken := 0
	for _, w := range q.waiting {
		if len(p.Requests) == most {
			break
		}
		taken++
		w.sent = true
		switch {
		case w.gone:
			q.gone--
		case w.ctx.Err() != nil:
		case w.since.Before(late):
			w.err = context.DeadlineExceeded
			w.done <- struct{}{}
		default:
			p.Requests = append(p.Requests, w.asked)
			p.from = append(p.from, w)
		}
	}
	if q.waiting = q.waiting[taken:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return p
}

// drop marks a request as gone. It is removed later together with others, so that each costs little.
func (q *keyQueue[Q, A]) drop(w *request[Q, A]) {
	w.gone = true
	if q.gone++; 2*q.gone > len(q.waiting) {
		q.waiting = slices.DeleteFunc(q.waiting, func(w *request[Q, A]) bool { return w.gone })
		q.gone = 0
	}
}

// leaver is a context that does not end when the caller hangs up, but can be asked.
type leaver interface{ HasLeft() bool }

// dropLeavers drops the requests whose callers have hung up, and reports whether there were any. Each check costs a
// system call.
func (q *keyQueue[Q, A]) dropLeavers(now time.Time) bool {
	if now.Sub(q.asked) < leftEvery {
		return false
	}
	q.asked = now
	before := q.length()
	q.waiting = slices.DeleteFunc(q.waiting, func(w *request[Q, A]) bool {
		who, ok := w.ctx.(leaver)
		if w.gone || !ok || !who.HasLeft() {
			return w.gone
		}
		w.err = context.Canceled
		w.done <- struct{}{}
		return true
	})
	q.gone = 0
	return len(q.waiting) < before
}

// classify records the speed of a queue after a call.
func (c *Coalescer[Q, A]) classify(p *Batch[Q, A], took time.Duration, shared bool) {
	q := p.queue
	q.took, q.speed = took, quick
	if took > c.Timeout/slowCall {
		if q.speed = slow; p.Err != nil {
			q.speed = failing
		}
	}
	q.unproven = q.speed == failing || q.speed == slow && shared
}

// othersQuick reports whether a call was quick just now. The caller must hold mu.
func (c *Coalescer[Q, A]) othersQuick() bool { return c.Now().Sub(c.lastQuick) <= c.Timeout }

// mayBegin reports whether a call may begin with a queue. The caller must hold mu.
func (c *Coalescer[Q, A]) mayBegin(q *keyQueue[Q, A]) bool {
	return q.speed == quick || c.Calls == 1 || c.slow < c.Calls-1 || q.speed == slow && !c.othersQuick()
}

// isProbe reports whether a queue goes alone as a probe. That is rare while all are slow, because it costs the others a
// call. The caller must hold mu.
func (c *Coalescer[Q, A]) isProbe(q *keyQueue[Q, A]) bool {
	due := c.probing == 0 && (c.othersQuick() || c.Now().Sub(c.probed) >= c.Timeout/2)
	return q.unproven && (c.cleared || due)
}

// mayJoin reports whether a queue may share a call with the call's first queue. The caller must hold mu.
func (c *Coalescer[Q, A]) mayJoin(q, first *keyQueue[Q, A]) bool {
	switch {
	case q.speed != first.speed:
		return false
	case q.speed == quick:
		return true
	case q.unproven && c.cleared:
		return false
	}
	return q.speed == failing || max(q.took, first.took) <= alike*min(q.took, first.took)
}

// Forget drops the queues that were not used lately.
func (c *Coalescer[Q, A]) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	for key, q := range c.queues {
		if !q.ready && !q.inFlight && now.Sub(q.used) >= queueIdle {
			delete(c.queues, key)
		}
	}
}
