package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/internal/testkit"
)

// breaker carries out the faults of a plan.
type breaker struct {
	cluster  *cluster
	plan     plan
	sale     string
	answered func() int64
	accepted func() int  // orders so far
	loaded   func() bool // the shoppers are done

	mu        sync.Mutex
	errs      []error
	lastEnd   time.Time
	windows   []window // in which Redis may lose what it answered
	spans     []window // of the faults
	failovers atomic.Int64
	wg        sync.WaitGroup
}

// start lets every fault wait for its moment.
func (b *breaker) start(ctx context.Context) {
	for _, f := range b.plan.faults {
		b.wg.Go(func() {
			b.await(ctx, int64(f.after))
			end := b.begins()
			if err := b.carryOut(ctx, f); err != nil {
				b.mu.Lock()
				b.errs = append(b.errs, fmt.Errorf("%s: %w", f, err))
				b.mu.Unlock()
			}
			end()
		})
	}
}

// await returns after so many answers, or when there will be none: while one
// fault keeps all shoppers from being answered, the next one still comes.
func (b *breaker) await(ctx context.Context, answers int64) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for b.answered() < answers && !b.loaded() {
		if pause(ctx, 2*time.Millisecond) != nil {
			return
		}
	}
}

func (b *breaker) carryOut(ctx context.Context, f fault) error {
	switch {
	case f.kind == point:
		return b.die(ctx, f)
	case f.kind == kill || f.kind == term || f.kind == freeze:
		return b.strike(ctx, f)
	case strings.HasPrefix(f.kind, "db-"):
		s := b.cluster.stores
		s.dbFault.Lock()
		defer s.dbFault.Unlock()
		if strike := b.engineStrike(f.kind); strike != nil {
			return strike(ctx, f)
		}
		if f.kind == dbKill {
			s.server.Kill()
			_ = pause(ctx, f.hold)
			return s.server.Start(ctx)
		}
		return b.disturb(ctx, f, b.cluster.db)
	}
	s := b.cluster.stores
	s.redisFault.Lock()
	defer s.redisFault.Unlock()
	if f.kind == redisCut || f.kind == redisPause || f.kind == redisDelay || f.kind == redisDrop {
		return b.disturb(ctx, f, b.cluster.redis)
	}
	if s.group != nil {
		return b.breakGroup(ctx, f)
	}
	return b.breakRedis(ctx, f)
}

// die makes a keeper that is armed rebuild; other points are armed from the start.
func (b *breaker) die(ctx context.Context, f fault) error {
	if !strings.HasPrefix(f.arm, "rebuild.") {
		return nil
	}
	n := b.cluster.nodes[f.node]
	n.fault.Lock()
	defer n.fault.Unlock()
	before := n.restart(10*time.Millisecond, f.arm)
	for l := n.current(); l == before || !running(l); l = n.current() {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	s := b.cluster.stores
	s.redisFault.Lock()
	defer s.redisFault.Unlock()
	return b.restartHot(ctx)
}

func running(l *life) bool {
	select {
	case <-l.running:
		return true
	case <-l.done:
		return true // it will not come any more
	default:
		return false
	}
}

// strike harms one process.
func (b *breaker) strike(ctx context.Context, f fault) error {
	n := b.cluster.nodes[f.node]
	n.fault.Lock()
	defer n.fault.Unlock()
	switch f.kind {
	case kill:
		n.restart(f.hold, "")
	case freeze:
		n.signal(syscall.SIGSTOP)
		_ = pause(ctx, f.hold)
		n.signal(syscall.SIGCONT)
	case term:
		l := n.signal(syscall.SIGTERM)
		if l == nil {
			return nil
		}
		ended, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		select {
		case <-l.done:
		case <-ended.Done():
			return fmt.Errorf("%s did not end within its grace after SIGTERM", n.name)
		}
		if l.up && l.code != 0 && len(b.plan.faults) == 1 {
			return fmt.Errorf("%s exited with %d after SIGTERM", n.name, l.code)
		}
	}
	return nil
}

// disturb harms the network between processes and one store.
func (b *breaker) disturb(ctx context.Context, f fault, all []*testkit.Proxy) error {
	proxies := all
	if f.node >= 0 {
		proxies = all[f.node : f.node+1]
	}
	each := func(do func(*testkit.Proxy)) {
		for _, p := range proxies {
			do(p)
		}
	}
	switch kind := f.kind[strings.Index(f.kind, "-")+1:]; kind {
	case "cut":
		each((*testkit.Proxy).Cut)
	case "pause":
		each((*testkit.Proxy).Pause)
	case "delay":
		each(func(p *testkit.Proxy) { p.Delay(40 * time.Millisecond) })
	case "drop":
		each(func(p *testkit.Proxy) { p.DropReplies(true) })
	}
	_ = pause(ctx, f.hold)
	var err error
	each(func(p *testkit.Proxy) {
		if strings.HasSuffix(f.kind, "-drop") {
			p.Cut() // no connection may go on behind a reply that is missing
		}
		p.DropReplies(false)
		p.Delay(0)
		p.Resume()
		if e := p.Heal(); e != nil {
			err = e
		}
	})
	return err
}

// breakRedis harms the server itself.
func (b *breaker) breakRedis(ctx context.Context, f fault) error {
	s := b.cluster.stores
	kept, from := "", time.Time{}
	switch f.kind {
	case redisFlush:
		defer b.loses(time.Time{})()
		return s.client.FlushAll(ctx).Err()
	case redisStop:
		pid := s.redis.PID()
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		_ = pause(ctx, f.hold)
		return syscall.Kill(pid, syscall.SIGCONT)
	case dataSwap:
		return b.swapData(ctx, f)
	case redisBack:
		var err error
		from = time.Now()
		if kept, err = s.keepFiles(); err != nil {
			return err
		}
		_ = pause(ctx, f.hold)
	}
	s.redis.Kill()
	if f.kind == redisEmpty || f.kind == redisBack {
		defer b.loses(from)()
		if err := s.replaceFiles(kept); err != nil {
			return err
		}
	} else {
		_ = pause(ctx, f.hold)
	}
	return s.redis.Start(ctx)
}

// end returns when the last fault was over, which may be a death.
func (b *breaker) end() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.lastEnd
	for _, n := range b.cluster.nodes {
		n.mu.Lock()
		if n.died.After(last) {
			last = n.died
		}
		n.mu.Unlock()
	}
	return last
}
