package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"sluice/gateway/server"
	"sluice/store/redis"
)

// undo is one step of Stop.
type undo struct {
	name string
	stop func(context.Context) error
}

func (a *App) onStop(name string, stop func(context.Context) error) {
	a.undo = append(a.undo, undo{name, stop})
}

// loop runs f until the step is stopped, and again after a panic. Work for many must not end with one failure.
func (a *App) loop(name string, f func(context.Context)) {
	a.task(name, func(ctx context.Context) error {
		a.panics.Run(ctx, name, f)
		return nil
	})
}

// task runs f like loop, and reports the error with which it ends.
func (a *App) task(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.watch(ctx, name, f(ctx)) }()
	a.onStop(name, func(stop context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-stop.Done():
			return stop.Err()
		}
	})
}

// barredLook is how often whileAllowed checks whether its part may still run.
const barredLook = 200 * time.Millisecond

// whileAllowed returns a function that runs f while this process may act on orders. It ends f when the process may not,
// and runs it again afterwards.
func (a *App) whileAllowed(name string, f func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		ticker := time.NewTicker(barredLook)
		defer ticker.Stop()
		for ctx.Err() == nil {
			if a.barred() == nil {
				a.untilBarred(ctx, ticker.C, func(ctx context.Context) { a.panics.Run(ctx, name, f) })
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}
}

func (a *App) untilBarred(ctx context.Context, tick <-chan time.Time, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(ctx)
	}()
	for a.barred() == nil && ctx.Err() == nil {
		select {
		case <-tick:
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}
	cancel()
	<-ended
}

func (a *App) serve(name string, ln net.Listener, srv *server.Server, drain func()) {
	done := make(chan error, 1)
	running, stopped := context.WithCancel(context.Background())
	go func() { done <- a.watch(running, name, srv.Serve(ln)) }()
	a.onStop(name, func(ctx context.Context) error {
		defer stopped()
		if drain != nil {
			drain()
		}
		grace := a.cfg.Stop.Grace / 2
		err := srv.Shutdown(ctx, grace)
		select {
		case end := <-done:
			return errors.Join(err, end)
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	})
}

// watch reports a part that ended with an error before it was stopped.
func (a *App) watch(running context.Context, name string, err error) error {
	if err != nil && running.Err() == nil {
		select {
		case a.failed <- fmt.Errorf("%s: %w", name, err):
		default:
		}
	}
	return err
}

// linger goes on serving while readiness fails already, so that load balancers have time to use other instances.
func (a *App) linger(ctx context.Context) {
	if a.cfg.Stop.Delay <= 0 || !a.running {
		return
	}
	timer := time.NewTimer(a.cfg.Stop.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drainVolatile lets the workers finish every ticket if Redis ends with this process, because those tickets would be
// lost.
func (a *App) drainVolatile(ctx context.Context) error {
	if a.redis.Mode != redis.ModeEmbedded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Stop.Grace/2)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		left, err := a.inFlight(ctx)
		if left == 0 {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%d tickets were still in line and are lost with the in-process redis", left)
		}
	}
}

// inFlight counts the tickets of all lines. It counts the readable lines even if it returns an error for others.
func (a *App) inFlight(ctx context.Context) (left int64, failed error) {
	for _, id := range a.saleCache.Active() {
		v, err := a.lines.Of(id).View(ctx)
		if err != nil {
			failed = err
			continue
		}
		left += v.Waiting + v.Isolated + v.Leased + v.Retrying
	}
	return left, failed
}

func closer(ln net.Listener) func(context.Context) error {
	return func(context.Context) error {
		// The server has usually closed it before.
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
