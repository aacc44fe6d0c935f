package gateway

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice/queue"
)

// Limiter counts requests per user, per address and over all. It is safe for concurrent use and holds at most 262,144 users and as many
// addresses. Beyond that a newcomer takes the place of the longest unseen of a few buckets picked at random, whose owner then starts
// afresh: under such a crowd the global limit is the one that protects, and an honest newcomer is never refused for want of memory.
type Limiter struct {
	now      func() time.Time
	plan     atomic.Pointer[limitPlan]
	users    *buckets[saleUser]
	addrs    *buckets[netip.Addr]
	shares   *queue.Budgets // nil: the global limits are this process' own
	instance string
}

// saleUser is a user in a sale that has a limit per user of its own; in all others together the sale is empty.
type saleUser struct{ sale, user string }

// limitPlan is one configuration; buckets compare the pointer to notice a change.
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
	l := &Limiter{now: now, users: newBuckets[saleUser](), addrs: newBuckets[netip.Addr]()}
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
	plan := l.plan.Load()
	s := plan.of(sale)
	return l.users.allow(saleUser{s.userSale, user}, plan, s.user, l.now())
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
	plan := l.plan.Load()
	return l.addrs.allow(addr, plan, plan.addr, l.now())
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

// decide takes a token from the bucket if there is one.
func decide(bucket *rate.Limiter, p policy, now time.Time) Decision {
	d := Decision{OK: bucket.AllowN(now, 1), Policy: p.name}
	d.Limit, d.Window = quota(p.rps)
	tokens := bucket.TokensAt(now)
	d.Remaining = max(int(tokens), 0)
	if !d.OK {
		d.Remaining = 0
		d.RetryAfter = time.Duration(math.Ceil((1 - tokens) / p.rps * float64(time.Second)))
	}
	return d
}

// quota expresses a rate as whole requests in whole seconds, rounded towards fewer requests.
func quota(rps float64) (limit, window int) {
	if rps >= 1 {
		return int(rps), 1
	}
	return 1, int(math.Ceil(1 / rps))
}
