package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// plan is everything one run does, decided by its seed alone.
type plan struct {
	name     string
	seed     uint64
	driver   string
	layout   layout
	shoppers int
	stock    int
	limit    int
	lineCap  int
	batch    int
	pays     bool // orders must be paid: some are, some late, some expire
	follows  bool // the shop's systems follow the orders
	faults   []fault

	engine     string // of Redis, one of onSingle and its like; empty is onSingle
	replicated bool   // 202 only when the replicas have it
}

// fault is one thing that breaks, at a moment counted in answers to shoppers.
type fault struct {
	kind  string
	node  int           // which process, or whose connections; -1 is all of them
	after int           // answers that shoppers have got by then
	hold  time.Duration // how long it lasts
	arm   string        // kind point: where to die, as step:n
	lag   int           // orders that Redis takes and then does not have
	what  string        // kinds dbSettings and dbCodes: which one
	lies  bool          // kind dbCodes: the work is done before it is refused
}

// The kinds of fault. Those in lossy make Redis lose what it acknowledged.
const (
	point = "point" // dies at a named step

	kill   = "kill"   // kill -9 of a process
	term   = "term"   // SIGTERM of a process
	freeze = "freeze" // a process stands still for longer than its lease

	redisKill  = "redis-kill"
	redisStop  = "redis-stop"
	redisCut   = "redis-cut"
	redisPause = "redis-pause"
	redisDelay = "redis-delay"
	redisDrop  = "redis-drop" // replies are lost
	redisFlush = "redis-flush"
	redisEmpty = "redis-empty" // restarted without its file
	redisBack  = "redis-back"  // restarted with an older file

	dbKill  = "db-kill"
	dbCut   = "db-cut"
	dbPause = "db-pause"
	dbDelay = "db-delay"
	dbDrop  = "db-drop"

	dbSettings = "db-settings" // the server, or what the account may do, is set against us
	dbCodes    = "db-codes"    // a proxy answers with codes of engines that are not here
	dbPromote  = "db-promote"  // PostgreSQL: a standby takes over that lacks the last commits
)

var (
	processFaults = []string{kill, term, freeze}
	redisFaults   = []string{redisKill, redisStop, redisCut, redisPause, redisDelay, redisDrop, redisFlush, redisEmpty,
		redisBack, dataSwap}
	dbFaults     = []string{dbKill, dbCut, dbPause, dbDelay, dbDrop}
	engineFaults = []string{dbSettings, dbCodes, dbPromote}
	steps        = []string{
		"admit.before", "admit.after", "claim.done", "tx.inserted", "tx.before-commit", "tx.committed", "settle.before",
		"settle.after", "notify.leased", "notify.delivered", "cancel.committed", "rebuild.begun", "rebuild.restored",
	}
	paySteps = []string{
		"pay.before", "pay.committed", "pay.shown", "late.released", "late.reserved", "late.before-commit",
		"late.committed", "late.settled",
		"expire.claimed", "expire.before-commit", "expire.committed", "expire.released",
	}
)

func (f fault) lossy() bool {
	return f.kind == redisFlush || f.kind == redisEmpty || f.kind == redisBack || f.kind == dataSwap
}

func (f fault) String() string {
	where := "all"
	if f.node >= 0 {
		where = fmt.Sprint("#", f.node)
	}
	if f.kind == point {
		return fmt.Sprintf("%s at %s, answer %d", f.arm, where, f.after)
	}
	return fmt.Sprintf("%s of %s, answer %d, %s", f.named(), where, f.after, f.hold.Round(time.Millisecond))
}

func (p plan) String() string {
	faults := make([]string, len(p.faults))
	for i, f := range p.faults {
		faults[i] = f.String()
	}
	return fmt.Sprintf("%s, %s replicated %v, %s, %d shoppers for %d units, limit %d, cap %d, batch %d, paying %v: %s",
		p.driver, p.engine, p.replicated, strings.Join(p.layout,
			" | "), p.shoppers, p.stock, p.limit, p.lineCap, p.batch, p.pays, strings.Join(faults, "; "))
}

func (p plan) has(test func(fault) bool) bool {
	for _, f := range p.faults {
		if test(f) {
			return true
		}
	}
	return false
}

func (p plan) lossy() bool { return p.has(p.exceeds) }

// arms says which node is to die at which step from its start. A step of the
// rebuild is armed later: every line is built once when its sale is created.
func (p plan) arms() map[int]string {
	arms := map[int]string{}
	for _, f := range p.faults {
		if f.kind == point && !strings.HasPrefix(f.arm, "rebuild.") {
			arms[f.node] = f.arm
		}
	}
	return arms
}

// chance makes the decisions of one plan.
type chance struct{ *rand.Rand }

func chanceOf(seed uint64) chance { return chance{rand.New(rand.NewPCG(seed, 0x5105ce))} }

func (c chance) of(percent int) bool { return c.IntN(100) < percent }

func (c chance) between(from, to int) int { return from + c.IntN(to-from+1) }

func (c chance) ms(from, to int) time.Duration {
	return time.Duration(c.between(from, to)) * time.Millisecond
}

func pick[T any](c chance, from []T) T { return from[c.IntN(len(from))] }

// planOf returns the plan of a random run.
func planOf(seed uint64) plan {
	c := chanceOf(seed)
	p := c.sale(seed, pick(c, []string{"sqlite", "mysql", "mysql", "postgres", "postgres"}))
	p.pays = c.of(40)
	if p.engine = engineOf(seed); p.engine != onSingle {
		p = c.onGroup(p, p.engine)
		p.faults = append(p.faults, c.groupFault(p, pick(c, groupFaults(p.engine))))
	}
	for range c.between(1, 3) {
		p.faults = append(p.faults, c.fault(p))
	}
	if p.follows = c.of(40); p.follows {
		p.faults = append(p.faults, c.point(p, pick(c, slices.Concat(delaySteps, readSteps))))
	}
	return p.promotesOnce()
}

// promotesOnce makes the second promotion of a database a plain kill: there is one standby.
func (p plan) promotesOnce() plan {
	promoted := false
	for i := range p.faults {
		switch {
		case p.faults[i].kind != dbPromote:
		case promoted:
			p.faults[i].kind = dbKill
		default:
			promoted = true
		}
	}
	return p
}

// sale decides everything but the faults.
func (c chance) sale(seed uint64, driver string) plan {
	p := plan{name: fmt.Sprintf("seed-%d", seed), seed: seed, driver: driver, engine: onSingle,
		layout:   layout{allRoles},
		shoppers: c.between(200, 350), limit: 1, batch: pick(c, []int{5, 60, 400})}
	p.stock = pick(c, []int{p.shoppers / 4, p.shoppers / 2, p.shoppers * 3 / 2})
	p.lineCap = 10_000
	if c.of(30) {
		p.limit = 2
	}
	if c.of(25) {
		p.lineCap = c.between(8, 40)
	}
	if driver != "sqlite" {
		p.layout = pick(c, []layout{
			{allRoles, allRoles}, {"gateway", "worker,notifier", "worker,notifier"}, {"gateway", "gateway",
				"worker,notifier", "worker,notifier"},
		})
	}
	return p
}

// fault decides on one fault that p's system can have.
func (c chance) fault(p plan) fault {
	kinds := [][]string{redisFaults, processFaults, {point}, {point}}
	if p.engine != onSingle {
		kinds = [][]string{groupFaults(p.engine), groupFaults(p.engine), processFaults, {point}}
	}
	if p.driver != "sqlite" {
		kinds = append(kinds, dbFaults, engineFaults)
	}
	kind := pick(c, pick(c, kinds))
	if kind == point {
		if p.pays && c.of(50) {
			return c.point(p, pick(c, paySteps))
		}
		return c.point(p, pick(c, steps))
	}
	if slices.Contains(groupFaults(p.engine), kind) {
		return c.groupFault(p, kind)
	}
	return c.timed(p, kind)
}

func (c chance) timed(p plan, kind string) fault {
	f := fault{kind: kind, node: c.IntN(len(p.layout)), after: c.between(1, p.shoppers*2/3), hold: c.ms(50, 900)}
	switch kind {
	case freeze:
		f.node = p.nodeWith(c, "worker")
		f.hold = c.ms(2200, 2700)
	case redisStop:
		f.hold = c.ms(300, 2500)
	case dataSwap:
		f.lag = c.between(20, 80)
	case redisDelay, dbDelay:
		f.hold = c.ms(500, 1500)
	case dbSettings, dbCodes, dbPromote:
		return c.engineFault(p, f)
	}
	if (strings.HasPrefix(kind, "redis-") || strings.HasPrefix(kind, "db-")) && c.of(50) {
		f.node = -1
	}
	return f
}

func (c chance) point(p plan, step string) fault {
	f := fault{kind: point, after: 0, arm: fmt.Sprintf("%s:%d", step, c.between(1, 4))}
	switch {
	case slices.Contains([]string{"admit", "cancel", "pay", "late"}, step[:strings.Index(step, ".")]),
		slices.Contains(readSteps, step):
		f.node = p.nodeWith(c, "gateway")
	case strings.HasPrefix(step, "rebuild."):
		f.node = c.IntN(len(p.layout))
		f.after, f.arm = c.between(1, p.shoppers/2), step+":1"
	default:
		f.node = p.nodeWith(c, "worker")
	}
	return f
}

func (p plan) nodeWith(c chance, role string) int {
	var found []int
	for i, roles := range p.layout {
		if strings.Contains(roles, role) {
			found = append(found, i)
		}
	}
	return pick(c, found)
}

// armAll puts the fault into every process of a role.
func (p plan) armAll(role string, f fault) []fault {
	var all []fault
	for i, roles := range p.layout {
		if strings.Contains(roles, role) {
			f.node = i
			all = append(all, f)
		}
	}
	return all
}
