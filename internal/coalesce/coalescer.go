// Package coalesce joins requests that come at the same time into few calls to a store.
package coalesce

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrOverloaded says that too many requests wait.
var ErrOverloaded = errors.New("too many requests wait for the store")

// ErrBroken answers requests whose call has panicked.
var ErrBroken = errors.New("the call to the store broke")

// Config says how requests are joined into calls.
type Config[Q, A any] struct {
	// Send makes one call. It sets the answers of each batch, or its error.
	Send     func(ctx context.Context, batches []Batch[Q, A])
	PerKey   int             // requests of one key in one call
	PerCall  int             // requests in one call, after which it takes no further key
	Calls    int             // calls in flight
	Bound    int             // requests of one key that may wait
	Timeout  time.Duration   // of one call
	Detached bool            // callers never make a call themselves, so that they can always hang up
	OnPanic  func(cause any) // called after a panic of a call, on its goroutine
	Now      func() time.Time
}

// Coalescer joins the requests that arrive during a call into the next call. Nothing waits for a timer: a lone request
// is sent at once.
//
// Requests stand in queues, one for each key. A queue is part of one call at a time: its requests are sent in the
// order of their arrival. A call takes queues in turn, so that a long one does not starve the others. A call that
// hangs delays only its own queues. Slow queues do not share calls with quick ones: see keyQueue. A request that need
// not wait makes its call itself, unless the last call was shared. A call that panics fails its own requests.
type Coalescer[Q, A any] struct {
	Config[Q, A]

	mu        sync.Mutex
	queues    map[string]*keyQueue[Q, A] // queues that were used lately
	ready     []*keyQueue[Q, A]          // queues with requests and not in flight, in order
	inFlight  int
	slow      int           // calls of queues that are not quick
	probing   int           // calls of an unproven queue alone
	cleared   bool          // the last probe was quick
	probed    time.Time     // when a probe was last slow
	lastQuick time.Time     // when the last quick call with answers ended
	shared    bool          // the last call had more than one request, so the next may have several
	idle      chan struct{} // closed when the last call has ended; nil when none is in flight
	spare     sync.Pool     // of *request[Q, A]
}

// New returns a coalescer.
func New[Q, A any](cfg Config[Q, A]) *Coalescer[Q, A] { return &Coalescer[Q, A]{Config: cfg} }

// request is one caller's request. The coalescer's mutex guards it.
type request[Q, A any] struct {
	ctx    context.Context // of the caller, who has gone if it has ended
	since  time.Time
	asked  Q
	answer A
	err    error
	sent   bool // it left the queue, for a call or refused
	gone   bool // its caller has hung up; it may still be in the queue
	done   chan struct{}
}

// Do returns the answer to one request. While the store hangs it returns within two timeouts of a call and the rest
// of the one in flight. When ctx ends it returns early; a request that was not sent yet then never is. A caller that
// makes the call itself returns only when the call ends.
func (c *Coalescer[Q, A]) Do(ctx context.Context, key string, asked Q) (answer A, err error) {
	w, ok := c.spare.Get().(*request[Q, A])
	if !ok {
		w = &request[Q, A]{done: make(chan struct{}, 1)}
	}
	w.ctx, w.since, w.asked = ctx, c.Now(), asked
	q, leads := c.join(key, w)
	if q == nil {
		return answer, ErrOverloaded
	}
	if leads {
		c.flushOwn(q)
	}
	select {
	case <-w.done: // the caller's own call brought the answer, even if ctx has ended
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			c.leave(q, w)
			return answer, ctx.Err() // w is not reused: the call may still write to it
		}
	}
	answer, err = w.answer, w.err
	*w = request[Q, A]{done: w.done}
	c.spare.Put(w)
	return answer, err
}

// join puts a request into its queue and ensures that a call follows. It returns nil if the queue is full. leads says
// that the caller must make the call.
func (c *Coalescer[Q, A]) join(key string, w *request[Q, A]) (q *keyQueue[Q, A], leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, ok := c.queues[key]
	if !ok {
		if c.queues == nil {
			c.queues = make(map[string]*keyQueue[Q, A])
		}
		q = &keyQueue[Q, A]{key: key}
		c.queues[key] = q
	}
	if q.length() >= c.Bound && !q.dropLeavers(w.since) {
		return nil, false
	}
	q.waiting = append(q.waiting, w)
	if !q.inFlight && !q.ready {
		q.ready = true
		c.ready = append(c.ready, q)
		leads = c.startCall()
	}
	return q, leads
}

// leave removes the request of a caller that has hung up from its queue.
func (c *Coalescer[Q, A]) leave(q *keyQueue[Q, A], w *request[Q, A]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.sent {
		q.drop(w)
	}
}

// startCall starts one more call if that is allowed. It reports true if the caller must make it. The caller must hold
// mu.
func (c *Coalescer[Q, A]) startCall() (flushOwn bool) {
	if c.inFlight >= c.Calls {
		return false
	}
	if c.inFlight++; c.inFlight == 1 {
		c.idle = make(chan struct{})
	}
	if c.shared || c.Detached {
		go c.run()
		return false
	}
	return true
}

// Wait returns when no call is in flight, so not before requests cease.
func (c *Coalescer[Q, A]) Wait() {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

// Waiting returns how many requests of a key wait for a call.
func (c *Coalescer[Q, A]) Waiting(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q, ok := c.queues[key]; ok {
		return q.length()
	}
	return 0
}

// InFlight returns how many calls are in flight.
func (c *Coalescer[Q, A]) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight
}

// Keys returns how many keys have a queue.
func (c *Coalescer[Q, A]) Keys() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queues)
}
