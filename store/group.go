package store

import (
	"context"
	"errors"
	"slices"
	"sync"

	"gorm.io/gorm"
)

// groupMost bounds the transactions that are committed together.
const groupMost = 16

// errApart tells a member that its group did not go through.
var errApart = errors.New("the group's transaction was rolled back")

// group commits the transactions that wait for SQLite's one writer together: a
// page that several of them change is written and flushed once. Either all of a group commit or
// none; after none, each runs by itself and gets its own error. Safe for concurrent use.
type group struct {
	together func(ctx context.Context, fn func(tx *gorm.DB) error) error
	alone    func(ctx context.Context, fn func(tx *gorm.DB) error) error

	mu      sync.Mutex
	waiting []*member // the first of them leads, or will
	busy    bool      // somebody leads
}

type member struct {
	ctx  context.Context
	fn   func(tx *gorm.DB) error
	lead chan struct{} // its turn to lead has come
	done chan error    // somebody else has led
}

// run returns when fn has been committed, alone or among others, or has failed.
func (g *group) run(ctx context.Context, fn func(tx *gorm.DB) error) error {
	m := &member{ctx: ctx, fn: fn, lead: make(chan struct{}, 1), done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.busy {
		g.busy = true
		m.lead <- struct{}{}
	}
	g.mu.Unlock()
	select {
	case <-m.lead:
		return g.carry(m)
	case err := <-m.done:
		return g.apart(m, err)
	case <-ctx.Done():
		if g.leave(m) {
			return ctx.Err()
		}
		return g.apart(m, <-m.done)
	}
}

// apart is what a member makes of its group's end: after a failure it goes by
// itself, on its own goroutine, where a panic of its belongs.
func (g *group) apart(m *member, err error) error {
	if errors.Is(err, errApart) {
		return g.alone(m.ctx, m.fn)
	}
	return err
}

// leave takes a member that has lost its patience out; false when it has been
// taken into a transaction already.
func (g *group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.waiting, m)
	if at < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, at, at+1)
	select {
	case <-m.lead: // its turn came in the same moment
		g.pass()
	default:
	}
	return true
}

// pass lets the next of those who wait lead. The caller holds mu.
func (g *group) pass() {
	if g.busy = len(g.waiting) > 0; g.busy {
		g.waiting[0].lead <- struct{}{}
	}
}

// carry commits the leader m together with those who wait behind it.
func (g *group) carry(m *member) error {
	g.mu.Lock()
	all := slices.Clone(g.waiting[:min(groupMost, len(g.waiting))])
	g.waiting = slices.Delete(g.waiting, 0, len(all))
	g.mu.Unlock()
	defer func() { // also when m panics
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pass()
	}()
	if len(all) == 1 {
		return g.alone(m.ctx, m.fn)
	}
	// Detached from every member: none of them may take the others down.
	err := g.together(context.WithoutCancel(m.ctx), func(tx *gorm.DB) error {
		for _, one := range all {
			if err := one.try(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		err = errApart
	}
	for _, one := range all[1:] {
		one.done <- err
	}
	return g.apart(m, err)
}

// try runs a member's part. A panic counts as an error here: it comes again
// when the member runs by itself.
func (m *member) try(tx *gorm.DB) (err error) {
	defer func() {
		if recover() != nil {
			err = errApart
		}
	}()
	return m.fn(tx)
}
