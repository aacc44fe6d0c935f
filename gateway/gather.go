package gateway

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"
)

// slowCall is the part of its timeout after which a call was slow.
const slowCall = 10

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
// that hangs delays the lanes it carries; the others travel in the next, and
// whoever was in it travels alone until a call of its own was quick. A request
// that need not wait makes its call itself, unless the last call was shared.
type gatherer[Q, A any] struct {
	send    func(ctx context.Context, parcels []parcel[Q, A])
	perLane int           // requests of one lane in one call
	perCall int           // requests in one call, after which it takes no further lane
	calls   int           // calls in flight
	bound   int           // requests waiting in one lane
	timeout time.Duration // of one call
	aloof   bool          // callers never make a call themselves: it may last, and they may hang up
	now     func() time.Time

	mu     sync.Mutex
	lanes  map[string]*lane[Q, A] // bounded by the sales of the book
	ready  []*lane[Q, A]          // lanes that wait and are not in flight, in turn
	flying int
	crawls int           // of those, calls of lanes that were slow
	busy   bool          // the last call carried more than one request: the next may, too
	idle   chan struct{} // closed when the last call has ended; nil when none flies
	spare  sync.Pool     // of *waiter[Q, A]
}

// parcel is one lane's part of a call. Whoever sends it sets err, and where
// that is nil as many answers as there are requests.
type parcel[Q, A any] struct {
	key      string
	requests []Q
	answers  []A
	err      error

	lane *lane[Q, A]
	from []*waiter[Q, A]
}

type lane[Q, A any] struct {
	key     string
	waiting []*waiter[Q, A]
	flying  bool
	slow    bool // its last call was: it travels alone until it is quick again
}

type waiter[Q, A any] struct {
	ctx     context.Context // of the caller, who has gone when it has ended
	since   time.Time
	request Q
	answer  A
	err     error
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
	leads, ok := g.join(key, w)
	if !ok {
		return answer, errCrowded
	}
	if leads {
		g.lead()
	}
	select {
	case <-w.done: // the caller's own call brought it: it counts, whatever has become of ctx
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			return answer, ctx.Err() // the flight may still write to w
		}
	}
	answer, err = w.answer, w.err
	*w = waiter[Q, A]{done: w.done}
	g.spare.Put(w)
	return answer, err
}

// join puts a waiter into its lane and sees to it that a flight will come.
// leads says that the caller has to make it.
func (g *gatherer[Q, A]) join(key string, w *waiter[Q, A]) (leads, ok bool) {
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
	if len(l.waiting) >= g.bound {
		return false, false
	}
	l.waiting = append(l.waiting, w)
	if !l.flying && len(l.waiting) == 1 {
		g.ready = append(g.ready, l)
		leads = g.launch()
	}
	return leads, true
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

// lead makes one call for whoever waits now, the caller among them, and leaves
// the next ones to a goroutine: a lone request has nobody to let by, and a
// goroutine and a channel between it and the store are a tenth of its time.
func (g *gatherer[Q, A]) lead() {
	parcels := g.take()
	if parcels == nil {
		return
	}
	defer g.handOn()
	g.carry(parcels)
}

// handOn leaves whoever waits by now to a goroutine, or ends the flight.
func (g *gatherer[Q, A]) handOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ready) > 0 {
		go g.fly()
		return
	}
	g.retire()
}

// fly sends until nothing waits.
func (g *gatherer[Q, A]) fly() {
	for {
		// Whoever can run now joins this call instead of the next.
		runtime.Gosched()
		parcels := g.take()
		if parcels == nil {
			return
		}
		g.carry(parcels)
	}
}

// carry makes one call and hands out its answers, also when the call panics:
// the one who leads may be recovered above, and nobody else would end it.
func (g *gatherer[Q, A]) carry(parcels []parcel[Q, A]) {
	// Detached from every caller: none of them may leave the others without an answer.
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	began := g.now()
	for i := range parcels {
		parcels[i].err = errBroken
	}
	defer func() {
		cancel()
		slow := g.now().Sub(began) > g.timeout/slowCall
		for i := range parcels {
			parcels[i].deliver()
		}
		g.land(parcels, slow)
	}()
	g.send(ctx, parcels)
}

func (p *parcel[Q, A]) deliver() {
	for i, w := range p.from {
		if p.err != nil {
			w.err = p.err
		} else {
			w.answer = p.answers[i]
		}
		w.done <- struct{}{}
	}
}

// take returns the parcels of the next call; nil, and the flight is over, when
// nobody waits.
func (g *gatherer[Q, A]) take() []parcel[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var parcels []parcel[Q, A]
	late := g.now().Add(-2 * g.timeout)
	for room := g.perCall; room > 0; {
		l := g.next(len(parcels) == 0)
		if l == nil {
			break
		}
		p := l.fill(g.perLane, late)
		if len(p.requests) == 0 {
			continue
		}
		l.flying = true
		room -= len(p.requests)
		parcels = append(parcels, p)
		if l.slow {
			g.crawls++
			break
		}
	}
	if parcels == nil {
		g.retire()
	}
	return parcels
}

// retire ends a flight. The caller holds mu.
func (g *gatherer[Q, A]) retire() {
	if g.flying--; g.flying == 0 {
		close(g.idle)
		g.idle = nil
	}
}

// next takes the next lane out of the turn; a slow one only when it comes
// first, and while a flight is left for the quick ones.
func (g *gatherer[Q, A]) next(first bool) *lane[Q, A] {
	for i, l := range g.ready {
		if !l.slow || first && (g.crawls < g.calls-1 || g.calls == 1) {
			g.ready = slices.Delete(g.ready, i, i+1)
			return l
		}
	}
	return nil
}

// fill takes the oldest requests of a lane into a parcel, without those whose
// callers have gone, and turns away those that have waited too long.
func (l *lane[Q, A]) fill(most int, late time.Time) parcel[Q, A] {
	n := min(most, len(l.waiting))
	p := parcel[Q, A]{key: l.key, lane: l, requests: make([]Q, 0, n), from: make([]*waiter[Q, A], 0, n)}
	taken := 0
	for _, w := range l.waiting {
		if len(p.requests) == most {
			break
		}
		taken++
		switch {
		case w.ctx.Err() != nil:
		case w.since.Before(late):
			w.err = context.DeadlineExceeded
			w.done <- struct{}{}
		default:
			p.requests = append(p.requests, w.request)
			p.from = append(p.from, w)
		}
	}
	if l.waiting = l.waiting[taken:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	return p
}

// land puts lanes in which somebody came meanwhile at the end of the turn.
func (g *gatherer[Q, A]) land(parcels []parcel[Q, A], slow bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = len(parcels) > 1 || len(parcels[0].requests) > 1
	if parcels[0].lane.slow {
		g.crawls--
	}
	for i := range parcels {
		l := parcels[i].lane
		l.slow = slow
		if l.flying = false; len(l.waiting) > 0 {
			g.ready = append(g.ready, l)
		}
	}
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
