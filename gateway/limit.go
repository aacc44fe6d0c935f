package gateway

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice/queue"
)

// Limiter counts requests per user, per address and over all. It is safe for concurrent use and holds at most 262,144 users and as many
// addresses. Beyond that those who have not been seen for longest start afresh: under such a crowd the global limit is the one that
// protects, and an honest newcomer is never refused for want of memory.
type Limiter struct {
	now      func() time.Time
	plan     atomic.Pointer[limitPlan]
	seed     maphash.Seed
	users    *buckets
	addrs    *buckets
	shares   *queue.Budgets // nil: the global limits are this process' own
	instance string
}

// limitPlan is one configuration.
type limitPlan struct {
	general scope
	addr    policy
	sales   map[string]scope // those that have limits of their own
}

// scope is where a limit counts: in one sale, or in all that have none of their own.
type scope struct {
	user     policy
	userSale string // the sale, when the limit per user is its own
	global   policy
	budget   *budget
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
	if !p.general.global.off() {
		list = append(list, p.general.budget)
	}
	for _, s := range p.sales {
		if s.budget != p.general.budget && !s.global.off() {
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
	Policy     string        // per-user, per-ip, global or sale
	Limit      int           // requests per Window
	Window     int           // seconds
	Remaining  int           // requests that would pass right now
}

// NewLimiter expects a configuration that passed Validate. Its global limits are this process' own unless it is Shared.
func NewLimiter(cfg LimitsConfig, now func() time.Time) *Limiter {
	l := &Limiter{now: now, seed: maphash.MakeSeed(), users: newBuckets(), addrs: newBuckets()}
	l.Set(cfg)
	return l
}

// Shared makes the global limits count over all gateways with the same budgets, from the first Renew on. The caller runs Run.
// instance names this gateway among them.
func (l *Limiter) Shared(shares *queue.Budgets, instance string) *Limiter {
	l.shares, l.instance = shares, instance
	return l
}

// Set changes the limits at once; buckets keep what they have used, and a limit that was off starts with its whole
// burst. cfg must have passed Validate. Calls must not overlap each other; requests may overlap them.
func (l *Limiter) Set(cfg LimitsConfig) {
	old := l.plan.Load()
	if old == nil {
		old = &limitPlan{}
	}
	plan := &limitPlan{addr: newPolicy("per-ip", cfg.PerIPRPS, cfg.PerIPBurst), sales: make(map[string]scope, len(cfg.Sales))}
	plan.general = scope{user: newPolicy("per-user", cfg.PerUserRPS, cfg.PerUserBurst), global: newPolicy("global", cfg.GlobalRPS, cfg.GlobalBurst)}
	plan.general.budget = l.budgetOf(old.general, generalBudget, plan.general.global)
	for sale, own := range cfg.Sales {
		s := plan.general
		if own.PerUserRPS != nil {
			s.user, s.userSale = newPolicy("per-user", *own.PerUserRPS, own.PerUserBurst), sale
		}
		if own.GlobalRPS != nil {
			s.global = newPolicy("sale", *own.GlobalRPS, own.GlobalBurst)
			s.budget = l.budgetOf(old.sales[sale], sale, s.global)
		}
		plan.sales[sale] = s
	}
	l.plan.Store(plan)
}

// generalBudget is no sale's id.
const generalBudget = "*"

// budgetOf goes on with the budget a scope had under the old plan, if it had one.
func (l *Limiter) budgetOf(was scope, name string, p policy) *budget {
	if was.budget == nil || was.budget.name != name || was.global.off() {
		return newBudget(name, p)
	}
	was.budget.resize(p, l.now())
	return was.budget
}

// AllowGlobal counts a request for a sale against what all gateways together take.
func (l *Limiter) AllowGlobal(sale string) Decision {
	s := l.plan.Load().of(sale)
	if s.global.off() {
		return Decision{OK: true}
	}
	return s.budget.allow(s.global, l.now())
}

// AllowUser counts a request of an authenticated user for a sale.
func (l *Limiter) AllowUser(sale, user string) Decision {
	s := l.plan.Load().of(sale)
	key := maphash.String(l.seed, user)
	if s.userSale != "" { // a bucket of its own beside the one for all other sales
		key = bits.RotateLeft64(key, 1) ^ maphash.String(l.seed, s.userSale)
	}
	return l.users.allow(key, s.user, l.now())
}

// AllowAnonymous counts a request that carries no valid user, or that failed, against its address. Requests of valid
// users are never counted here: many of them share an address. IPv6 addresses count by their /64, which one
// subscriber owns. Text that is no address shares one bucket.
func (l *Limiter) AllowAnonymous(ip string) Decision {
	addr, err := netip.ParseAddr(ip)
	if err == nil {
		addr = addr.Unmap().WithZone("")
	}
	if addr.Is6() {
		prefix, _ := addr.Prefix(64) // cannot fail: 64 fits
		addr = prefix.Addr()
	}
	return l.addrs.allow(maphash.Comparable(l.seed, addr), l.plan.Load().addr, l.now())
}

// Problem is the 429 for a refusal; WriteProblem adds the RateLimit headers.
func (d Decision) Problem() Problem {
	p := NewProblem(CodeRateLimited, fmt.Sprintf("The %s limit is %d requests in %d s; wait for Retry-After.", d.Policy, d.Limit, d.Window))
	p.RetryAfter, p.Limit = d.RetryAfter, d
	return p
}

// setHeaders writes the fields of draft-ietf-httpapi-ratelimit-headers.
func (d Decision) setHeaders(h http.Header) {
	if d.Policy == "" {
		return
	}
	h.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=%d`, d.Policy, d.Limit, d.Window))
	h.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, d.Policy, d.Remaining, wholeSeconds(d.RetryAfter)))
}

// quota expresses a rate as whole requests in whole seconds, rounded towards fewer requests.
func quota(rps float64) (limit, window int) {
	if rps >= 1 {
		return int(rps), 1
	}
	return 1, int(math.Ceil(1 / rps))
}
