package gateway

import (
	"context"
	"slices"
	"time"
)

const (
	slowCall  = 10                     // the part of its timeout after which a call is slow
	alike     = 4                      // times as long as another a call may take that is as slow
	laneIdle  = time.Minute            // after which a lane nobody uses is let go
	leftEvery = 100 * time.Millisecond // how often a crowded lane asks who has hung up
)

// lane is the requests of one sale that wait for a call.
//
// Quick lanes travel with quick ones, slow ones with those that are as slow, and
// those whose last call failed by themselves. While others are quick a flight is
// left to them. Of a slow call that several shared nobody knows whose fault it was:
// now and then one of its lanes travels alone to find out, and all of them as long
// as that turns out to be quick.
type lane[Q, A any] struct {
	key     string
	waiting []*waiter[Q, A]
	gone    int           // of those, whose callers have hung up
	ready   bool          // it stands in the turn
	flying  bool          // a call carries its requests
	took    time.Duration // its last call
	speed   speed
	suspect bool      // it is slow, and has not shown so alone
	used    time.Time // when its last call ended
	asked   time.Time // when it asked last who has hung up
}

// speed is what the last call of a lane was like.
type speed int

const (
	quick speed = iota
	slow
	failing // slow, and its own part failed
)

// length is how many still wait.
func (l *lane[Q, A]) length() int { return len(l.waiting) - l.gone }

// fill takes the oldest requests of a lane into a parcel, without those whose
// callers have gone, and turns away those that have waited too long.
func (l *lane[Q, A]) fill(most int, late time.Time) parcel[Q, A] {
	n := min(most, l.length())
	p := parcel[Q, A]{key: l.key, lane: l, requests: make([]Q, 0, n), from: make([]*waiter[Q, A], 0, n)}
	taken := 0
	for _, w := range l.waiting {
		if len(p.requests) == most {
			break
		}
		taken++
		w.sent = true
		switch {
		case w.gone:
			l.gone--
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

// drop no longer counts a waiter. It is taken out with others, so that one costs
// little however many wait.
func (l *lane[Q, A]) drop(w *waiter[Q, A]) {
	w.gone = true
	if l.gone++; 2*l.gone > len(l.waiting) {
		l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter[Q, A]) bool { return w.gone })
		l.gone = 0
	}
}

// leaver is a caller's context that does not end when the caller hangs up, and
// says so when it is asked.
type leaver interface{ Left() bool }

// dropLeft sends those away who turn out to have hung up, and reports whether
// there were any. Asking costs a system call for each.
func (l *lane[Q, A]) dropLeft(now time.Time) bool {
	if now.Sub(l.asked) < leftEvery {
		return false
	}
	l.asked = now
	before := l.length()
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiter[Q, A]) bool {
		who, ok := w.ctx.(leaver)
		if w.gone || !ok || !who.Left() {
			return w.gone
		}
		w.err = context.Canceled
		w.done <- struct{}{}
		return true
	})
	l.gone = 0
	return len(l.waiting) < before
}

// judge learns from the lane's part in a call that took so long.
func (g *gatherer[Q, A]) judge(p *parcel[Q, A], took time.Duration, shared bool) {
	l := p.lane
	l.took, l.speed = took, quick
	if took > g.timeout/slowCall {
		if l.speed = slow; p.err != nil {
			l.speed = failing
		}
	}
	l.suspect = l.speed == failing || l.speed == slow && shared
}

// othersQuick reports whether a call was quick just now. The caller holds mu.
func (g *gatherer[Q, A]) othersQuick() bool { return g.now().Sub(g.quick) <= g.timeout }

// begins reports whether a call may begin with a lane. The caller holds mu.
func (g *gatherer[Q, A]) begins(l *lane[Q, A]) bool {
	return l.speed == quick || g.calls == 1 || g.slow < g.calls-1 || l.speed == slow && !g.othersQuick()
}

// probes reports whether a lane that begins a call travels alone: seldom where
// all are slow, because it costs the others a call. The caller holds mu.
func (g *gatherer[Q, A]) probes(l *lane[Q, A]) bool {
	due := g.probing == 0 && (g.othersQuick() || g.now().Sub(g.probed) >= g.timeout/2)
	return l.suspect && (g.cleared || due)
}

// joins reports whether a lane may travel with the first of a call that is no
// probe. The caller holds mu.
func (g *gatherer[Q, A]) joins(l, first *lane[Q, A]) bool {
	switch {
	case l.speed != first.speed:
		return false
	case l.speed == quick:
		return true
	case l.suspect && g.cleared:
		return false
	}
	return l.speed == failing || max(l.took, first.took) <= alike*min(l.took, first.took)
}

// forget lets go of the lanes that nobody has used lately.
func (g *gatherer[Q, A]) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for key, l := range g.lanes {
		if !l.ready && !l.flying && now.Sub(l.used) >= laneIdle {
			delete(g.lanes, key)
		}
	}
}
