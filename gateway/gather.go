package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errCrowded says that more requests wait for one store than may.
var errCrowded = errors.New("too many requests wait for the store")

// errBroken is the answer to requests whose call has panicked.
var errBroken = errors.New("the call to the store broke")

// gatherer sends requests that arrive while a call is in flight together in
// the next one. Nobody waits for a timer: a lone request is sent at once.
//
// Requests stand in lanes, one per sale. A lane is part of one call at a time,
// so that its requests are sent in the order of their arrival, and a call
// takes lanes in turn, so that a crowded one does not starve the others. A call
// that hangs delays the lanes it carries; the others travel in the next, and slow
// ones apart from quick ones: see lane. A request that need not wait makes its
// call itself, unless the last call was shared. A call that panics fails its own
// requests.
type gatherer[Q, A any] struct {
	name    string // of the calls, for who looks into a panic
	send    func(ctx context.Context, parcels []parcel[Q, A])
	perLane int           // requests of one lane in one call
	perCall int           // requests in one call, after which it takes no further lane
	calls   int           // calls in flight
	bound   int           // requests waiting in one lane
	timeout time.Duration // of one call
	aloof   bool          // callers never make a call themselves: it may last, and they may hang up
	now     func() time.Time
	panics  *Panics

	mu      sync.Mutex
	lanes   map[string]*lane[Q, A] // those that were used lately
	ready   []*lane[Q, A]          // lanes that wait and are not in flight, in turn
	flying  int
	slow    int           // of those, calls of lanes that are not quick
	probing int           // of those, of a suspect alone
	cleared bool          // the last suspect was quick alone
	probed  time.Time     // when one was last slow alone
	quick   time.Time     // when a call was last quick and answered
	busy    bool          // the last call carried more than one request: the next may, too
	idle    chan struct{} // closed when the last call has ended; nil when none flies
	spare   sync.Pool     // of *waiter[Q, A]
}

// waiter is one request. Its state is guarded by the gatherer's mutex.
type waiter[Q, A any] struct {
	ctx     context.Context // of the caller, who has gone when it has ended
	since   time.Time
	request Q
	answer  A
	err     error
	sent    bool // in a call, or turned away: the lane no longer holds it
	gone    bool // its caller has hung up, and the lane may still hold it
	done    chan struct{}
}

// do returns the answer to one request. While the store hangs it returns
// within twice the timeout of a call and the rest of the call in flight. When
// it returns early, because ctx ended, a call in flight may still carry the
// request; one that was not sent yet never is. Whoever makes the call itself
// returns no sooner than the call ends.
func (g *gatherer[Q, A]) do(ctx context.Context, key string, request Q) (answer A, err error) {
	w, ok := g.spare.Get().(*waiter[Q, A])
	if !ok {
		w = &waiter[Q, A]{done: make(chan struct{}, 1)}
	}
	w.ctx, w.since, w.request = ctx, g.now(), request
	l, leads := g.join(key, w)
	if l == nil {
		return answer, errCrowded
	}
	if leads {
		g.lead(l)
	}
	select {
	case <-w.done: // the caller's own call brought it: it counts, whatever has become of ctx
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			g.leave(l, w)
			return answer, ctx.Err() // the flight may still write to w
		}
	}
	answer, err = w.answer, w.err
	*w = waiter[Q, A]{done: w.done}
	g.spare.Put(w)
	return answer, err
}

// join puts a waiter into its lane, nil when that is crowded, and sees to it that
// a flight will come. leads says that the caller has to make it.
func (g *gatherer[Q, A]) join(key string, w *waiter[Q, A]) (l *lane[Q, A], leads bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l, ok := g.lanes[key]
	if !ok {
		if g.lanes == nil {
			g.lanes = make(map[string]*lane[Q, A])
		}
		l = &lane[Q, A]{key: key}
		g.lanes[key] = l
	}
	if l.length() >= g.bound && !l.dropLeft(w.since) {
		return nil, false
	}
	l.waiting = append(l.waiting, w)
	if !l.flying && !l.ready {
		l.ready = true
		g.ready = append(g.ready, l)
		leads = g.launch()
	}
	return l, leads
}

// leave takes a waiter whose caller has hung up out of its lane.
func (g *gatherer[Q, A]) leave(l *lane[Q, A], w *waiter[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.sent {
		l.drop(w)
	}
}

// launch starts one more flight where one is allowed. The caller holds mu, and
// has to make the flight when launch says so.
func (g *gatherer[Q, A]) launch() (lead bool) {
	if g.flying >= g.calls {
		return false
	}
	if g.flying++; g.flying == 1 {
		g.idle = make(chan struct{})
	}
	if g.busy || g.aloof {
		go g.fly()
		return false
	}
	return true
}

// wait returns when no call is in flight, which takes as long as requests keep
// coming.
func (g *gatherer[Q, A]) wait() {
	g.mu.Lock()
	idle := g.idle
	g.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
