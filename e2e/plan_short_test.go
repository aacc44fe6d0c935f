package e2e

import (
	"slices"
	"strings"
)

// The short matrix is part of every test. Its runs take several faults each, so that it has all of them in a third of
// the time. One that fails is looked into with the runs of eachPlans.

// four are processes of which two can die at one step each, on either side of the line.
var four = layout{"gateway", "gateway", "worker,notifier", "worker,notifier"}

// stepsTogether are the steps at which the processes of four die, in that order.
var stepsTogether = [][]string{
	{"admit.before", "admit.after", "claim.done", "tx.inserted"},
	// the workers live, or a ticket is cancelled before it is an order
	{"cancel.committed", "cancel.committed", "", ""},
	{"", "", "tx.before-commit", "tx.committed"},
	{"", "", "settle.before", "settle.after"},
	{"", "", "notify.leased", "notify.delivered"},
	{"pay.before", "pay.committed", "expire.claimed", "expire.claimed"},
	{"pay.shown", "late.released", "expire.before-commit", "expire.before-commit"},
	{"late.reserved", "late.before-commit", "expire.committed", "expire.committed"},
	{"late.committed", "late.settled", "expire.released", "expire.released"},
	{"delay.receive", "delay.received", "delay.claim", "delay.claimed"},
	{"delay.ack", "delay.acked", "delay.call", "delay.called"},
	{"", "", "delay.settle", "delay.settled"},
}

// faultsTogether are the kinds of fault of one run. A SIGTERM is alone: its exit code is looked at.
var faultsTogether = [][]string{
	{term},
	{kill, freeze, dbKill},
	{redisKill, redisCut, dbCut},
	{redisStop, redisPause, dbPause},
	{redisDelay, redisDrop, dbDelay, dbDrop},
	{redisFlush, redisEmpty},
	{redisBack, dataSwap},
	{dbSettings, dbCodes},
	{dbSettings, dbCodes, dbPromote},
}

// shortPlans hold every kind of fault and every kill point, and each engine.
func shortPlans() []plan {
	var plans []plan
	begin := func(name, driver string) (plan, chance) {
		seed := uint64(300 + len(plans))
		c := chanceOf(seed)
		p := c.sale(seed, driver)
		p.name = name
		return p, c
	}
	drivers := []string{"mysql", "postgres"}
	for i, steps := range stepsTogether {
		named := slices.DeleteFunc(slices.Compact(slices.Clone(steps)), func(step string) bool { return step == "" })
		p, _ := begin("points-"+strings.Join(named, "-"), drivers[i%2])
		p.layout = four
		for node, step := range steps {
			if step != "" {
				p.faults = append(p.faults, fault{kind: point, node: node, arm: step + ":1"})
			}
			p.pays = p.pays || slices.Contains(paySteps, step)
			p.follows = p.follows || strings.HasPrefix(step, "delay.")
			if p.pays || strings.HasPrefix(step, "cancel.") {
				// so that late payments find a unit, and many soon have an order to cancel
				p.stock, p.batch = p.shoppers*3/2, 60
			}
		}
		plans = append(plans, p)
	}
	for _, step := range []string{"rebuild.begun", "rebuild.restored"} {
		p, c := begin("points-"+step, "sqlite") // one process: it is the one that rebuilds
		p.faults = []fault{c.point(p, step)}
		plans = append(plans, p)
	}
	for i, kinds := range faultsTogether {
		p, c := begin("faults-"+strings.Join(kinds, "-"), drivers[(i+1)%2])
		for _, kind := range kinds {
			p.faults = append(p.faults, c.timed(p, kind))
		}
		plans = append(plans, p)
	}
	return append(plans, groupPlans()...)
}

// eachPlans hold every kind of fault and every kill point once, each in a run of its own.
func eachPlans() []plan {
	var plans []plan
	drivers := []string{"mysql", "postgres", "sqlite"}
	for i, step := range slices.Concat(steps, paySteps, delaySteps, readSteps) {
		seed := uint64(i)
		c := chanceOf(seed)
		driver := drivers[i%len(drivers)]
		if strings.HasPrefix(step, "rebuild.") {
			driver = "sqlite" // one process: it is the one that rebuilds
		}
		p := c.sale(seed, driver)
		if slices.Contains(paySteps, step) {
			p.pays, p.stock = true, p.shoppers*3/2 // so that late payments find a unit
		}
		if strings.HasPrefix(step, "cancel.") {
			// so that many have an order, and some cancel one that a worker has made already
			p.stock = p.shoppers * 3 / 2
		}
		p.follows = strings.HasPrefix(step, "delay.")
		f := c.point(p, step)
		f.arm = step + ":1"
		p.name, p.faults = "point-"+step, []fault{f}
		if strings.HasPrefix(step, "expire.") {
			p.faults = p.armAll("worker", f) // one expirer may take all there is
		}
		if strings.HasPrefix(step, "cancel.") {
			p.faults = p.armAll("gateway", f) // whichever is asked
		}
		plans = append(plans, p)
	}
	for i, kind := range slices.Concat(processFaults, redisFaults, dbFaults) {
		seed := uint64(100 + i)
		c := chanceOf(seed)
		p := c.sale(seed, drivers[i%2])
		p.name, p.faults = "fault-"+kind, []fault{c.timed(p, kind)}
		plans = append(plans, p)
	}
	return append(append(plans, groupPlans()...), enginePlans()...)
}
