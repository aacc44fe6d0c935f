// Package ratelimit counts requests per user, per address and over all gateways.
package ratelimit

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice/fleet/budgets"
)

// Limiter counts requests per user, per address and over all. It is safe for concurrent use and
// holds at most 262,144 users who order, as many who read, and as many addresses. Beyond that those
// who have not been seen for longest start afresh: under such a crowd the global limit is the one
// that protects, and an honest newcomer is never refused for want of memory.
type Limiter struct {
	now      func() time.Time
	plan     atomic.Pointer[limitPlan]
	seed     maphash.Seed
	users    *buckets
	readers  *buckets
	addrs    *buckets
	shares   *budgets.Store // nil: the global limits are this process' own
	instance string
	wanted   chan struct{} // wakes Run
	took     atomic.Int64  // what the last renewal took, in ns
}

// limitPlan is one configuration.
type limitPlan struct {
	general scope
	sales   map[string]scope // those that have limits of their own
}

// scope is where a limit counts: in one sale, or in all that have none of their own.
type scope struct {
	user, reads, addr personal
	total             policy // of all users and all gateways together
	budget            *budget
}

// personal is a limit of which each user, or each address, has a bucket.
type personal struct {
	policy
	sale string // whose own it is; empty: the general one
}

// or is the sale's own limit where it has one.
func (p personal) or(sale string, rps *float64, burst int) personal {
	if rps == nil {
		return p
	}
	return personal{newPolicy(p.name, *rps, burst), sale}
}

func (p *limitPlan) of(sale string) scope {
	if s, ok := p.sales[sale]; ok {
		return s
	}
	return p.general
}

// budgets returns those with a limit, each once.
func (p *limitPlan) budgets() []*budget {
	list := make([]*budget, 0, 1+len(p.sales))
	if !p.general.total.off() {
		list = append(list, p.general.budget)
	}
	for _, s := range p.sales {
		if s.budget != p.general.budget && !s.total.off() {
			list = append(list, s.budget)
		}
	}
	return list
}

type policy struct {
	name  string
	rps   float64
	burst int
}

func newPolicy(name string, rps float64, burst int) policy {
	if burst == 0 {
		burst = int(math.Ceil(rps))
	}
	return policy{name, rps, burst}
}

func (p policy) off() bool { return p.rps <= 0 }

// Decision is the answer of a limiter. The zero Decision of a limit that is off carries no headers.
type Decision struct {
	OK         bool
	RetryAfter time.Duration // until one request fits; 0 when OK
	Next       time.Duration // until one more would, of a user or an address
	Policy     string        // per-user, per-user-reads, per-ip, global or sale
	Limit      int           // requests per Window
	Window     int           // seconds
	Remaining  int           // requests that would pass right now
}

// New expects a configuration that passed Validate. Its global limits are this process' own unless it is Shared.
func New(cfg Config, now func() time.Time) *Limiter {
	l := &Limiter{now: now, seed: maphash.MakeSeed(), users: newBuckets(), readers: newBuckets(), addrs: newBuckets()}
	l.Set(cfg)
	return l
}

// Set changes the limits at once; buckets keep what they have used, and a limit that was off starts with its whole
// burst. cfg must have passed Validate. Calls must not overlap each other; requests may overlap them.
func (l *Limiter) Set(cfg Config) {
	old := l.plan.Load()
	if old == nil {
		old = &limitPlan{}
	}
	plan := &limitPlan{sales: make(map[string]scope, len(cfg.Sales))}
	plan.general = scope{
		user:  personal{policy: newPolicy("per-user", cfg.PerUserRPS, cfg.PerUserBurst)},
		reads: personal{policy: newPolicy("per-user-reads", cfg.PerUserReadsRPS, cfg.PerUserReadsBurst)},
		addr:  personal{policy: newPolicy("per-ip", cfg.PerIPRPS, cfg.PerIPBurst)},
		total: newPolicy("global", cfg.GlobalRPS, cfg.GlobalBurst),
	}
	plan.general.budget = l.budgetOf(old.general, generalBudget, plan.general.total)
	for sale, own := range cfg.Sales {
		s := plan.general
		s.user = s.user.or(sale, own.PerUserRPS, own.PerUserBurst)
		s.reads = s.reads.or(sale, own.PerUserReadsRPS, own.PerUserReadsBurst)
		s.addr = s.addr.or(sale, own.PerIPRPS, own.PerIPBurst)
		if own.TotalRPS != nil {
			s.total = newPolicy("sale", *own.TotalRPS, own.TotalBurst)
			s.budget = l.budgetOf(old.sales[sale], sale, s.total)
		}
		plan.sales[sale] = s
	}
	l.plan.Store(plan)
}

// generalBudget is no sale's id.
const generalBudget = "*"

// budgetOf goes on with the budget a scope had under the old plan, if it had one.
func (l *Limiter) budgetOf(was scope, name string, p policy) *budget {
	if was.budget == nil || was.budget.name != name || was.total.off() {
		return newBudget(name, p)
	}
	was.budget.resize(p, l.now())
	return was.budget
}

// AllowUser counts an order of an authenticated user for a sale.
func (l *Limiter) AllowUser(sale, user string) Decision {
	return l.allow(l.users, l.plan.Load().of(sale).user, maphash.String(l.seed, user))
}

// AllowRead counts a request of an authenticated user about orders placed before, of one sale or,
// with an empty one, of all. It takes nothing from what the user may order.
func (l *Limiter) AllowRead(sale, user string) Decision {
	p := l.plan.Load().of(sale).reads
	if p.off() { // polls come by the hundred thousand: not even a hash
		return Decision{OK: true}
	}
	return l.allow(l.readers, p, maphash.String(l.seed, user))
}

// allow takes a token from the bucket of key; a sale's own limit has its own beside the one for all other sales.
func (l *Limiter) allow(in *buckets, p personal, key uint64) Decision {
	if p.sale != "" {
		key = bits.RotateLeft64(key, 1) ^ maphash.String(l.seed, p.sale)
	}
	return in.allow(key, p.policy, l.now())
}

// AllowAnonymous counts a request for a sale that carries no valid user against its address; the
// sale is empty where none is named. Requests of valid users are never counted here: many of them
// share an address. IPv6 addresses count by their /64, which one subscriber owns. Text that is no
// address shares one bucket.
func (l *Limiter) AllowAnonymous(sale, ip string) Decision {
	addr, err := netip.ParseAddr(ip)
	if err == nil {
		addr = addr.Unmap().WithZone("")
	}
	if addr.Is6() {
		prefix, _ := addr.Prefix(64) // cannot fail: 64 fits
		addr = prefix.Addr()
	}
	return l.allow(l.addrs, l.plan.Load().of(sale).addr, maphash.Comparable(l.seed, addr))
}

// Headers are the values of RateLimit-Policy and RateLimit, both empty without a policy
// (draft-ietf-httpapi-ratelimit-headers).
func (d Decision) Headers() (policy, state string) {
	if d.Policy == "" {
		return "", ""
	}
	wait := max(1, int64(math.Ceil(d.RetryAfter.Seconds())))
	return fmt.Sprintf(`"%s";q=%d;w=%d`, d.Policy, d.Limit, d.Window), fmt.Sprintf(`"%s";r=%d;t=%d`, d.Policy,
		d.Remaining, wait)
}

// quota expresses a rate as whole requests in whole seconds, rounded towards fewer requests.
func quota(rps float64) (limit, window int) {
	if rps >= 1 {
		return int(rps), 1
	}
	return 1, int(math.Ceil(1 / rps))
}
