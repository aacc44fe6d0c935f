package app

import (
	"context"
	"errors"
	"time"
)

// learnEvery is how often a process that starts asks for what it must know first.
const learnEvery = time.Second

// clock returns an error until Redis has told its clock: by a host's own a stop may seem to be over.
func (a *App) clock() error {
	if !a.clocked.Load() {
		return errors.New("redis has not told its clock yet")
	}
	return nil
}

// learn reads what operators have set, once Redis has told its clock.
func (a *App) learn(ctx context.Context) error {
	if err := a.clock(); err != nil {
		return err
	}
	return a.live.Sync(ctx)
}

// follow follows the configuration until ctx ends, once it is known.
func (a *App) follow(ctx context.Context) {
	for a.live.Known() != nil && a.learn(ctx) != nil {
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.live.Run(ctx)
}

// recall asks Redis for its clock.
func (a *App) recall(ctx context.Context) error {
	err := a.book.Recall(ctx)
	a.clocked.Store(err == nil)
	return err
}

// read keeps the book until ctx ends: the sales alone until Redis has told its clock.
func (a *App) read(ctx context.Context) {
	for !a.clocked.Load() && a.recall(ctx) != nil {
		_ = a.book.Refresh(ctx) // the next one tells
		if !pause(ctx, learnEvery) {
			return
		}
	}
	a.book.Run(ctx)
}

// pause waits and reports whether ctx has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// barred is why this process must not act on orders: nil when nothing keeps it.
func (a *App) barred() error {
	if err := a.guard.Err(); err != nil {
		return err
	}
	return a.live.Known()
}

// held is barred for who drains.
func (a *App) held() error {
	if err := a.guard.Stale(); err != nil {
		return err
	}
	return a.live.Known()
}
