package e2e

import (
	"slices"
	"strings"
	"time"
)

// The kinds of fault of a Redis with several servers. What is hot is the server
// that holds the line of the run's sale.
const (
	masterKill   = "master-kill"     // kill -9 of the hot master, which comes back later
	masterPause  = "master-pause"    // SIGSTOP of the hot master
	replicaPause = "replica-pause"   // SIGSTOP of a replica, of the hot master or of another
	planned      = "failover"        // by an operator, to a replica that is in step
	takeover     = "takeover"        // by an operator, whatever the replica lacks
	lagged       = "lagged-failover" // the replicas are cut off, then the hot master dies
	thereAndBack = "there-and-back"  // A to B as planned, A is cut off, B dies: A again
	reshard      = "reshard"         // the hot slot moves, one key after the other
	dataSwap     = "redis-swap"      // a single server, running, is given an older copy of its data
)

var (
	clusterFaults  = []string{masterKill, masterPause, replicaPause, planned, takeover, lagged, thereAndBack, reshard}
	sentinelFaults = []string{masterKill, masterPause, replicaPause, planned, lagged, thereAndBack}
	// outrun are those after which a server rules that may lack what the one before it answered.
	outrun = []string{masterKill, masterPause, takeover, lagged, thereAndBack}
)

// groupFaults returns the kinds of fault of an engine's servers.
func groupFaults(engine string) []string {
	switch engine {
	case onCluster:
		return clusterFaults
	case onSentinel:
		return sentinelFaults
	}
	return nil
}

// exceeds reports a fault of the plan that reaches further than the level at
// which its orders are answered: some may be lost, and each of them is told.
func (p plan) exceeds(f fault) bool {
	if f.lossy() {
		return true
	}
	if p.engine == "" || p.engine == onSingle || p.replicated {
		return false
	}
	// A master that sentinels replace as planned takes orders until it is told.
	return slices.Contains(outrun, f.kind) || f.kind == planned && p.engine == onSentinel ||
		f.kind == point && strings.HasPrefix(f.arm, "rebuild.")
}

// keepsLog reports a plan whose faults leave the event log as it is. No replica
// is asked for its entries: it is for other systems, and no answer depends on it.
func (p plan) keepsLog() bool {
	return !p.has(func(f fault) bool {
		return slices.Contains(outrun, f.kind) || f.kind == planned && p.engine == onSentinel
	})
}

// span returns the time in which the shoppers come: a failover takes seconds.
func (p plan) span() time.Duration {
	switch {
	case p.has(func(f fault) bool { return f.kind == thereAndBack }):
		return 9 * time.Second
	case p.engine != "" && p.engine != onSingle:
		return 4 * time.Second
	}
	return 1200 * time.Millisecond
}

// engineOf draws the Redis of a seed. Its chance is its own, so that all else
// that a seed decides stays as it is.
func engineOf(seed uint64) string {
	return pick(chanceOf(seed^0xe9619e), []string{onSingle, onSingle, onCluster, onSentinel})
}

// onGroup gives a plan the shoppers and the promise for an engine of several servers.
func (c chance) onGroup(p plan, engine string) plan {
	p.engine, p.replicated = engine, c.of(25)
	p.shoppers = c.between(500, 800)
	p.stock = pick(c, []int{p.shoppers / 4, p.shoppers / 2, p.shoppers * 3 / 2})
	return p
}

// groupFault decides on one fault of the servers.
func (c chance) groupFault(p plan, kind string) fault {
	f := fault{kind: kind, node: c.IntN(2), after: c.between(20, p.shoppers/3), hold: c.ms(100, 4000)}
	switch kind {
	case masterPause, replicaPause:
		f.hold = c.ms(1000, 6000)
	case lagged, thereAndBack:
		f.lag = c.between(50, 200)
		// The last is longer than a difference may stand.
		f.hold = pick(c, []time.Duration{time.Second, 4 * time.Second, 13 * time.Second})
	case reshard:
		f.hold = c.ms(10, 200) // after each key
	}
	return f
}

// only returns the plan of a seed with one kind of fault of the servers and no other.
func only(seed uint64, kind string) plan {
	c := chanceOf(seed)
	engines := []string{}
	for _, engine := range []string{onCluster, onSentinel} {
		if slices.Contains(groupFaults(engine), kind) {
			engines = append(engines, engine)
		}
	}
	p := c.sale(seed, pick(c, []string{"mysql", "postgres"}))
	p = c.onGroup(p, pick(c, engines))
	p.name, p.replicated = kind+"-"+p.name, false
	p.faults = []fault{c.groupFault(p, kind)}
	if kind == lagged || kind == thereAndBack {
		p = p.scarce()
	}
	return p
}

// scarce has fewer units than shoppers, all of whom come through one after the
// other, and keeps the dead server away until a difference stands too long.
func (p plan) scarce() plan {
	p.shoppers, p.stock, p.limit, p.lineCap, p.batch = 1000, 600, 1, 10_000, 5
	for i := range p.faults {
		p.faults[i].after, p.faults[i].lag, p.faults[i].hold = 100, 150, 13*time.Second
	}
	return p
}

// groupPlans returns the fixed plans: those that failed once, and one of each way in which another server takes over.
func groupPlans() []plan {
	var plans []plan
	for i, one := range []struct {
		engine, kind string
		replicated   bool
	}{
		{engine: onCluster, kind: lagged}, {engine: onSentinel, kind: thereAndBack}, {engine: onCluster, kind: reshard},
		{engine: onCluster, kind: lagged, replicated: true},
	} {
		seed := uint64(200 + i)
		c := chanceOf(seed)
		p := c.onGroup(c.sale(seed, []string{"mysql", "postgres"}[i%2]), one.engine)
		p.replicated = one.replicated
		p.name, p.faults = one.engine+"-"+one.kind, []fault{c.groupFault(p, one.kind)}
		if one.replicated {
			p.name += "-replicated"
		}
		if one.kind == reshard {
			p.faults = append(p.faults, c.groupFault(p, planned), c.groupFault(p, replicaPause))
		}
		if one.kind == lagged || one.kind == thereAndBack {
			p = p.scarce()
		}
		plans = append(plans, p)
	}
	return plans
}
