package testkit

import (
	"context"
	"sync"
	"testing"
)

// Background runs something until stop is called, which returns when it has ended. The test's end stops it too.
func Background(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("what ran in the background ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
