// Package ratelimit limits requests per user, per address and over all gateways.
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

// Limiter limits requests per user, per address and over all gateways. It remembers at most 262,144 users who order, as
// many who read, and as many addresses. Beyond that the least recently seen start with a full bucket; then the global
// limit protects. Safe for concurrent use.
type Limiter struct {
	now      func() time.Time
	plan     atomic.Pointer[limitPlan]
	seed     maphash.Seed
	users    *buckets
	readers  *buckets
	addrs    *buckets
	shares   *budgets.Store // nil: global limits count in this process only
	instance string
	wanted   chan struct{} // wakes Run
	took     atomic.Int64  // duration of the last renewal, in ns
}

// limitPlan is one configuration.
type limitPlan struct {
	general scope
	sales   map[string]scope // sales with limits of their own
}

// scope is the limits of one sale, or of all sales without their own.
type scope struct {
	user, reads, addr personal
	total             policy // of all users and all gateways together
	budget            *budget
}

// personal is a limit with a bucket for each user or address.
type personal struct {
	policy
	sale string // the sale of the limit; empty: the general limit
}

// withSaleLimit returns the sale's own limit if it has one, else p.
func (p personal) withSaleLimit(sale string, rps *float64, burst int) personal {
	if rps == nil {
		return p
	}
	return personal{newPolicy(p.name, *rps, burst), sale}
}

func (p *limitPlan) scopeFor(sale string) scope {
	if s, ok := p.sales[sale]; ok {
		return s
	}
	return p.general
}

// budgets returns all budgets with a limit, each once.
func (p *limitPlan) budgets() []*budget {
	list := make([]*budget, 0, 1+len(p.sales))
	if !p.general.total.isOff() {
		list = append(list, p.general.budget)
	}
	for _, s := range p.sales {
		if s.budget != p.general.budget && !s.total.isOff() {
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

func (p policy) isOff() bool { return p.rps <= 0 }

// Decision is the answer of a limiter. A limit that is off gives a Decision without headers.
type Decision struct {
	OK         bool
	RetryAfter time.Duration // until one request fits; 0 when OK
	Next       time.Duration // until the next request of the user or address fits
	Policy     string        // per-user, per-user-reads, per-ip, global or sale
	Limit      int           // requests per Window
	Window     int           // seconds
	Remaining  int           // requests that would pass now
}

// New returns a Limiter for a valid configuration. Its global limits count in this process only, unless it is Shared.
func New(cfg Config, now func() time.Time) *Limiter {
	l := &Limiter{now: now, seed: maphash.MakeSeed(), users: newBuckets(), readers: newBuckets(), addrs: newBuckets()}
	l.Set(cfg)
	return l
}

// Set changes the limits at once. Used tokens stay used, and a limit that was off starts with its whole burst. cfg must
// be valid. Calls of Set must not overlap each other, but may overlap requests.
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
		s.user = s.user.withSaleLimit(sale, own.PerUserRPS, own.PerUserBurst)
		s.reads = s.reads.withSaleLimit(sale, own.PerUserReadsRPS, own.PerUserReadsBurst)
		s.addr = s.addr.withSaleLimit(sale, own.PerIPRPS, own.PerIPBurst)
		if own.TotalRPS != nil {
			s.total = newPolicy("sale", *own.TotalRPS, own.TotalBurst)
			s.budget = l.budgetOf(old.sales[sale], sale, s.total)
		}
		plan.sales[sale] = s
	}
	l.plan.Store(plan)
}

// generalBudget is the general budget's name, which is no valid sale id.
const generalBudget = "*"

// budgetOf returns the budget that a scope had in the old plan, resized, or a new one.
func (l *Limiter) budgetOf(was scope, name string, p policy) *budget {
	if was.budget == nil || was.budget.name != name || was.total.isOff() {
		return newBudget(name, p)
	}
	was.budget.resize(p, l.now())
	return was.budget
}

// AllowUser counts an order of an authenticated user for a sale and decides on it.
func (l *Limiter) AllowUser(sale, user string) Decision {
	return l.allow(l.users, l.plan.Load().scopeFor(sale).user, maphash.String(l.seed, user))
}

// AllowRead counts a request of an authenticated user about earlier orders. They are of one sale or, if that is
// empty, of all. It does not count as an order.
func (l *Limiter) AllowRead(sale, user string) Decision {
	p := l.plan.Load().scopeFor(sale).reads
	if p.isOff() { // polls are so many that even a hash would cost
		return Decision{OK: true}
	}
	return l.allow(l.readers, p, maphash.String(l.seed, user))
}

// allow takes a token from the bucket of key. A sale's own limit has separate buckets.
func (l *Limiter) allow(in *buckets, p personal, key uint64) Decision {
	if p.sale != "" {
		key = bits.RotateLeft64(key, 1) ^ maphash.String(l.seed, p.sale)
	}
	return in.allow(key, p.policy, l.now())
}

// AllowAnonymous counts a request without a valid user against its address; sale may be empty. Requests of valid users
// are never counted here, because many share an address. IPv6 addresses count by their /64, which one subscriber owns.
// All texts that are no address share one bucket.
func (l *Limiter) AllowAnonymous(sale, ip string) Decision {
	addr, err := netip.ParseAddr(ip)
	if err == nil {
		addr = addr.Unmap().WithZone("")
	}
	if addr.Is6() {
		prefix, _ := addr.Prefix(64) // cannot fail: 64 fits
		addr = prefix.Addr()
	}
	return l.allow(l.addrs, l.plan.Load().scopeFor(sale).addr, maphash.Comparable(l.seed, addr))
}

// Headers returns the values of RateLimit-Policy and RateLimit, both empty without a policy
// (draft-ietf-httpapi-ratelimit-headers).
func (d Decision) Headers() (policy, state string) {
	if d.Policy == "" {
		return "", ""
	}
	wait := max(1, int64(math.Ceil(d.RetryAfter.Seconds())))
	return fmt.Sprintf(`"%s";q=%d;w=%d`, d.Policy, d.Limit, d.Window), fmt.Sprintf(`"%s";r=%d;t=%d`, d.Policy,
		d.Remaining, wait)
}

// quota returns a rate as whole requests in whole seconds, rounded down.
func quota(rps float64) (limit, window int) {
	if rps >= 1 {
		return int(rps), 1
	}
	return 1, int(math.Ceil(1 / rps))
}
