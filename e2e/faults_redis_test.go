package e2e

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"sluice/internal/testkit/servers"
	"sluice/internal/testkit/servers/redisnodes"
)

const (
	failoverPatience = 60 * time.Second // until another server rules, on a busy machine
	handPatience     = 8 * time.Second  // until it is told once more to take over: engines give up after five
	lagPatience      = 4 * time.Second  // for orders that only the master has
)

// breakGroup harms a Redis of several servers, and returns when all of them are
// in order again.
func (b *breaker) breakGroup(ctx context.Context, f fault) error {
	group := b.cluster.stores.group
	if err := group.AwaitWhole(ctx); err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	master, replicas, err := group.Roles(ctx, b.hot())
	if err != nil {
		return err
	}
	if len(replicas) == 0 {
		return fmt.Errorf("master %s has no replica", master.Addr())
	}
	h := &harm{breaker: b, fault: f, group: group, master: master, replicas: replicas}
	if err := h.mark(ctx, master, replicas); err != nil {
		return fmt.Errorf("before the fault: %w", err)
	}
	if err := h.do(ctx); err != nil {
		return err
	}
	if err := group.AwaitWhole(ctx); err != nil {
		return fmt.Errorf("after the fault: %w", err)
	}
	return nil
}

// slack is how long a write may need to its replicas while nothing is wrong.
const slack = time.Second

// hot returns a key of the line of the run's sale.
func (b *breaker) hot() string { return key(b.sale, "meta") }

// harm is one fault of a group.
type harm struct {
	*breaker
	fault    fault
	group    redisGroup
	master   *servers.Server // of the line when the fault began
	replicas []*servers.Server
	kept     time.Time // what was answered before it is on every replica
}

// mark notes a moment, and returns when the replicas have all that was answered until then.
func (h *harm) mark(ctx context.Context, master *servers.Server, replicas []*servers.Server) error {
	h.kept = time.Now()
	return redisnodes.AwaitReplicated(ctx, master, replicas)
}

func (h *harm) do(ctx context.Context) error {
	switch h.fault.kind {
	case masterKill:
		over := h.tail()
		h.master.Kill()
		_ = pause(ctx, slack)
		over()
		_ = pause(ctx, h.fault.hold)
		defer h.noteIfReplaced(ctx, h.master)
		return h.bring(ctx, h.master)
	case masterPause:
		return h.freeze(ctx, h.master)
	case replicaPause:
		return h.pauseReplica(ctx)
	case planned, takeover:
		return h.hand(ctx, h.replicas[h.fault.node%len(h.replicas)])
	case lagged:
		return h.outrun(ctx, h.master, h.replicas)
	case thereAndBack:
		return h.thereAndBack(ctx)
	case reshard:
		cluster := h.group.(*redisnodes.Cluster)
		_, err := cluster.MoveSlot(ctx, h.hot(), h.fault.hold)
		return err
	}
	return fmt.Errorf("unknown fault %q", h.fault.kind)
}

// tail opens a window for what a master answers last, if the plan allows for a
// loss: its replicas may not have it yet.
func (h *harm) tail() func() {
	if !h.plan.exceeds(h.fault) {
		return func() {}
	}
	return h.loses(h.kept)
}

// twice opens a window in which two servers may take themselves for the master.
func (h *harm) twice() func() {
	if !h.plan.exceeds(h.fault) {
		return func() {}
	}
	return h.splits(h.kept)
}

// bring starts a server that another one has replaced. It may take itself for
// the master until it is told.
func (h *harm) bring(ctx context.Context, s *servers.Server) error {
	defer h.twice()()
	if err := s.Start(ctx); err != nil {
		return err
	}
	return h.group.AwaitWhole(ctx)
}

// freeze stops a server for a while.
func (h *harm) freeze(ctx context.Context, s *servers.Server) error {
	over, pid := h.tail(), s.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	_ = pause(ctx, slack)
	over()
	_ = pause(ctx, h.fault.hold)
	defer h.twice()() // it has not heard yet that it was replaced
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return err
	}
	h.noteIfReplaced(ctx, h.master)
	return nil
}

// pauseReplica stops a replica: one of the hot master, or of another one if there is any.
func (h *harm) pauseReplica(ctx context.Context) error {
	if h.fault.node == 0 {
		return h.freeze(ctx, h.replicas[0])
	}
	other, err := h.elsewhere(ctx)
	if err != nil {
		return err
	}
	return h.freeze(ctx, other)
}

// elsewhere returns a replica of a master that does not hold the line of the run's sale, or else the last of its own.
func (h *harm) elsewhere(ctx context.Context) (*servers.Server, error) {
	for i := range 64 {
		master, replicas, err := h.group.Roles(ctx, fmt.Sprintf("elsewhere-%d", i))
		if err != nil {
			return nil, err
		}
		if master != h.master && len(replicas) > 0 {
			return replicas[0], nil
		}
	}
	return h.replicas[len(h.replicas)-1], nil
}

// hand lets a replica take over and returns when it rules.
func (h *harm) hand(ctx context.Context, to *servers.Server) error {
	defer h.twice()() // until the old master has heard of it
	var err error
	for began := time.Now(); time.Since(began) < failoverPatience; {
		told := h.group.Failover(ctx, to, h.fault.kind == takeover)
		if err = h.ruled(ctx, handPatience, func(now *servers.Server) bool { return now == to }); err == nil {
			return h.group.AwaitWhole(ctx)
		}
		err = errors.Join(told, err)
	}
	return err
}

// ruled returns when the line has a master that is the wanted one.
func (h *harm) ruled(ctx context.Context, patience time.Duration, wanted func(*servers.Server) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		master, _, err := h.group.Roles(ctx, h.hot())
		if err == nil && wanted(master) {
			h.failovers.Add(1)
			return nil
		}
		if pause(ctx, lookEvery) != nil {
			return fmt.Errorf("no other server took over within %s (%v)", patience, err)
		}
	}
}

// noteIfReplaced counts a failover that a fault may or may not have caused.
func (h *harm) noteIfReplaced(ctx context.Context, was *servers.Server) {
	if h.group.AwaitWhole(ctx) != nil {
		return // said by whoever asks next
	}
	if master, _, err := h.group.Roles(ctx, h.hot()); err == nil && master != was {
		h.failovers.Add(1)
	}
}

// outrun cuts the replicas off, lets orders come that only the master has, and
// kills it. The dead server comes back after the fault's time.
func (h *harm) outrun(ctx context.Context, master *servers.Server, replicas []*servers.Server) error {
	if err := h.mark(ctx, master, replicas); err != nil {
		return err
	}
	over := h.tail()
	defer func() { over() }()
	for _, replica := range replicas {
		if err := redisnodes.CutReplica(ctx, replica); err != nil {
			return err
		}
	}
	h.awaitOrders(ctx, h.fault.lag)
	master.Kill()
	if err := h.ruled(ctx, failoverPatience, func(now *servers.Server) bool { return now != master }); err != nil {
		return err
	}
	over() // from here on only the new master answers
	over = func() {}
	for _, replica := range replicas {
		if err := redisnodes.MendReplica(ctx, replica); err != nil {
			return err
		}
	}
	_ = pause(ctx, h.fault.hold)
	return h.bring(ctx, master)
}

// thereAndBack hands over to a replica and outruns the old master, so that it
// rules again: with the scripts it has known all the time.
func (h *harm) thereAndBack(ctx context.Context) error {
	first, second := h.master, h.replicas[0]
	if err := h.hand(ctx, second); err != nil {
		return fmt.Errorf("the first half: %w", err)
	}
	if sentinel, ok := h.group.(*redisnodes.Sentinel); ok {
		if err := sentinel.Prefer(ctx, first); err != nil {
			return err
		}
	}
	h.awaitOrders(ctx, h.fault.lag/4) // the second one sells by then
	_, replicas, err := h.group.Roles(ctx, h.hot())
	if err != nil {
		return err
	}
	if err := h.outrun(ctx, second, replicas); err != nil {
		return err
	}
	master, _, err := h.group.Roles(ctx, h.hot())
	if err == nil && master != first { // sentinels may hold it for down at that moment
		fmt.Printf("%s: %s: another server than the first rules now\n", h.plan.name, h.fault)
	}
	return err
}

// awaitOrders returns when n more orders have been accepted, or when there will be none.
func (b *breaker) awaitOrders(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	for before := b.accepted(); b.accepted() < before+n && !b.loaded(); {
		if pause(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}
