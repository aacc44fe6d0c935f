package coalesce

import (
	"context"
	"slices"
	"time"
)

const (
	slowCall  = 10                     // the part of its timeout after which a call is slow
	alike     = 4                      // times as long as another a call may take that is as slow
	queueIdle = time.Minute            // after which a queue nobody uses is let go
	leftEvery = 100 * time.Millisecond // how often a full queue asks who has hung up
)

// keyQueue is the requests of one key that wait for a call.
//
// Quick queues go with quick ones, slow ones with those that are as slow, and those whose last call failed by
// themselves. While others are quick, one call is left to them. Of a slow call that several shared nobody knows whose
// fault it was. So now and then one of its queues goes alone to find out, and all of them as long as that turns out to
// be quick.
type keyQueue[Q, A any] struct {
	key      string
	waiting  []*request[Q, A]
	gone     int           // of those, whose callers have hung up
	ready    bool          // it stands in ready
	inFlight bool          // a call carries its requests
	took     time.Duration // its last call
	speed    speed
	unproven bool      // it is slow, and was not so alone yet
	used     time.Time // when its last call ended
	asked    time.Time // when it asked last who has hung up
}

// speed says what the last call of a queue was like.
type speed int

const (
	quick speed = iota
	slow
	failing // slow, and its own part failed
)

// length is how many still wait.
func (q *keyQueue[Q, A]) length() int { return len(q.waiting) - q.gone }

// fill takes the oldest requests of a queue into a batch, without those whose callers have gone, and turns away those
// that have waited too long.
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

// drop no longer counts a request. It is taken out with others, so that one costs little however many wait.
func (q *keyQueue[Q, A]) drop(w *request[Q, A]) {
	w.gone = true
	if q.gone++; 2*q.gone > len(q.waiting) {
		q.waiting = slices.DeleteFunc(q.waiting, func(w *request[Q, A]) bool { return w.gone })
		q.gone = 0
	}
}

// leaver is a caller's context that does not end when the caller hangs up, and says so when it is asked.
type leaver interface{ Left() bool }

// dropLeavers turns those away who turn out to have hung up, and reports whether there were any. Asking costs a system
// call for each.
func (q *keyQueue[Q, A]) dropLeavers(now time.Time) bool {
	if now.Sub(q.asked) < leftEvery {
		return false
	}
	q.asked = now
	before := q.length()
	q.waiting = slices.DeleteFunc(q.waiting, func(w *request[Q, A]) bool {
		who, ok := w.ctx.(leaver)
		if w.gone || !ok || !who.Left() {
			return w.gone
		}
		w.err = context.Canceled
		w.done <- struct{}{}
		return true
	})
	q.gone = 0
	return len(q.waiting) < before
}

// classify notes how slow the queue was in a call that took so long.
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

// othersQuick reports whether a call was quick just now. The caller holds mu.
func (c *Coalescer[Q, A]) othersQuick() bool { return c.Now().Sub(c.lastQuick) <= c.Timeout }

// mayBegin reports whether a call may begin with a queue. The caller holds mu.
func (c *Coalescer[Q, A]) mayBegin(q *keyQueue[Q, A]) bool {
	return q.speed == quick || c.Calls == 1 || c.slow < c.Calls-1 || q.speed == slow && !c.othersQuick()
}

// isProbe reports whether a queue that begins a call goes alone: seldom where all are slow, because it costs the others
// a call. The caller holds mu.
func (c *Coalescer[Q, A]) isProbe(q *keyQueue[Q, A]) bool {
	due := c.probing == 0 && (c.othersQuick() || c.Now().Sub(c.probed) >= c.Timeout/2)
	return q.unproven && (c.cleared || due)
}

// mayJoin reports whether a queue may go with the first of a call that is no probe. The caller holds mu.
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

// Forget lets go of the queues that nobody has used lately.
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
