package admission

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/server"
)

// scanTimeout bounds one scan of a line.
const scanTimeout = 10 * time.Second

// scans runs the goroutines that fill the filters, at most one for each sale.
type scans struct {
	now    func() time.Time
	panics *server.Panics
	total  atomic.Int64 // about how many users all filters have, without those since the last scans
	mu     sync.Mutex
	over   bool
	ctx    context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func (s *scans) init(now func() time.Time, panics *server.Panics) {
	s.now, s.panics = now, panics
	s.ctx, s.stop = context.WithCancel(context.Background())
}

// start runs scan in a goroutine. After wait was called it does nothing and returns false.
func (s *scans) start(scan func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.all.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, scanTimeout)
		defer cancel()
		defer s.panics.Catch("crowd")
		scan(ctx)
	})
	return true
}

// wait cancels all scans and returns when they have ended.
func (s *scans) wait() {
	s.mu.Lock()
	s.over = true
	s.stop()
	s.mu.Unlock()
	s.all.Wait()
}
