package gateway

import (
	"context"
	"runtime"
	"slices"
	"time"
)

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

// flight is one call: the parcels it carries, and of what lanes.
type flight[Q, A any] struct {
	parcels []parcel[Q, A]
	speed   speed
	probe   bool // of a suspect alone
}

// lead makes one call for whoever waits now, the caller's lane among them, and
// leaves the next ones to a goroutine: a lone request has nobody to let by, and a
// goroutine and a channel between it and the store are a tenth of its time.
func (g *gatherer[Q, A]) lead(own *lane[Q, A]) {
	f := g.take()
	switch {
	case f.parcels == nil:
	case f.carries(own):
		g.carry(f)
		g.handOn()
	default: // it is others' turn, and their call may last
		go g.flyOn(f)
	}
}

func (f *flight[Q, A]) carries(l *lane[Q, A]) bool {
	return slices.ContainsFunc(f.parcels, func(p parcel[Q, A]) bool { return p.lane == l })
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
	// Whoever can run now joins this call instead of the next.
	runtime.Gosched()
	g.flyOn(g.take())
}

// flyOn sends what was taken, and then until nothing waits.
func (g *gatherer[Q, A]) flyOn(f flight[Q, A]) {
	for f.parcels != nil {
		g.carry(f)
		runtime.Gosched()
		f = g.take()
	}
}

// carry makes one call and hands out its answers. A call that panics answers
// errBroken to all it has not answered.
func (g *gatherer[Q, A]) carry(f flight[Q, A]) {
	// Detached from every caller: none of them may leave the others without an answer.
	ctx, cancel := context.WithTimeout(context.Background(), g.timeout)
	began := g.now()
	for i := range f.parcels {
		f.parcels[i].err = errBroken
	}
	defer func() {
		if cause := recover(); cause != nil {
			g.panics.note(g.name, cause)
		}
		cancel()
		took := g.now().Sub(began)
		answered := false
		for i := range f.parcels {
			answered = f.parcels[i].deliver() || answered
		}
		g.land(f, took, answered)
	}()
	g.send(ctx, f.parcels)
}

// deliver hands out the answers, and reports whether there were any.
func (p *parcel[Q, A]) deliver() bool {
	if p.err == nil && len(p.answers) != len(p.from) {
		p.err = errBroken // it panicked in between
	}
	for i, w := range p.from {
		if p.err != nil {
			w.err = p.err
		} else {
			w.answer = p.answers[i]
		}
		w.done <- struct{}{}
	}
	return p.err == nil
}

// take returns the next call; one without parcels, and the flight is over, when
// nobody waits who may travel now.
func (g *gatherer[Q, A]) take() (f flight[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	late := g.now().Add(-2 * g.timeout)
	room, first := g.perCall, (*lane[Q, A])(nil)
	stay := g.ready[:0]
	for _, l := range g.ready {
		if room <= 0 || f.probe || first == nil && !g.begins(l) || first != nil && !g.joins(l, first) {
			stay = append(stay, l)
			continue
		}
		l.ready = false
		p := l.fill(g.perLane, late)
		if len(p.requests) == 0 {
			continue
		}
		l.flying = true
		room -= len(p.requests)
		f.parcels = append(f.parcels, p)
		if first == nil {
			first, f.speed, f.probe = l, l.speed, g.probes(l)
		}
	}
	clear(g.ready[len(stay):])
	g.ready = stay
	g.start(f)
	return f
}

// start counts a flight, and sees to another for those who stay behind. Without
// parcels it ends the flight. The caller holds mu.
func (g *gatherer[Q, A]) start(f flight[Q, A]) {
	if f.parcels == nil {
		g.retire()
		return
	}
	if f.speed != quick {
		g.slow++
	}
	if f.probe {
		g.probing++
	}
	if len(g.ready) > 0 && g.flying < g.calls {
		g.flying++
		go g.fly()
	}
}

// retire ends a flight. The caller holds mu.
func (g *gatherer[Q, A]) retire() {
	if g.flying--; g.flying == 0 {
		close(g.idle)
		g.idle = nil
	}
}

// land puts lanes in which somebody came meanwhile at the end of the turn.
func (g *gatherer[Q, A]) land(f flight[Q, A], took time.Duration, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, parcels := g.now(), f.parcels
	g.busy = len(parcels) > 1 || len(parcels[0].requests) > 1
	g.learn(f, took, answered)
	for i := range parcels {
		g.judge(&parcels[i], took, len(parcels) > 1)
		l := parcels[i].lane
		l.used = now
		if l.flying = false; l.length() > 0 {
			l.ready = true
			g.ready = append(g.ready, l)
		}
	}
}

// learn takes a flight out of the count, and notes how it went.
func (g *gatherer[Q, A]) learn(f flight[Q, A], took time.Duration, answered bool) {
	swift := took <= g.timeout/slowCall
	if swift && answered {
		g.quick = g.now()
	}
	if f.speed != quick {
		g.slow--
	}
	if f.probe {
		g.probing--
		if g.cleared = swift; !swift {
			g.probed = g.now()
		}
	}
}
