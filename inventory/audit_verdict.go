package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// Verdict is what an audit has found out.
type Verdict string

// The verdicts. A difference that was found wins over what could not be looked at.
const (
	VerdictClean     Verdict = "clean"     // everything was looked at, and nothing differs
	VerdictDifferent Verdict = "different" // something differs
	VerdictUnknown   Verdict = "unknown"   // a store could not be asked, or a line was not ready
)

// Audit is the result over all sales asked for.
type Audit struct {
	Verdict  Verdict     `json:"verdict"`
	Clean    *bool       `json:"clean"`              // nil: unknown
	Problems []string    `json:"problems,omitempty"` // why the sales could not be listed
	Sales    []SaleAudit `json:"sales"`
	Away     error       `json:"-"` // why a store could not be asked; nil when each answered
}

// Of returns the ids of the sales with this verdict.
func (a Audit) Of(v Verdict) []string {
	var ids []string
	for _, s := range a.Sales {
		if s.Verdict == v {
			ids = append(ids, s.Sale)
		}
	}
	return ids
}

// auditPatience bounds the time that an audit spends on looks that fail. Where a store did not answer for so long, the
// sales that need it are looked at without it; where lines were not ready, the rest is looked at once each.
const auditPatience = 5 * time.Second

// patience is how long looks have failed, by what they needed: the database, a server of Redis, or lines that are
// ready.
type patience map[string]time.Duration

const (
	needsDatabase = "the database"
	needsReady    = "lines that are ready"
)

// tries is how often a sale whose line is on a server may be looked at, and why it may not.
func (p patience) tries(server string) (n int, over string) {
	for _, need := range [...]string{needsDatabase, server} {
		if p[need] >= auditPatience {
			return 0, fmt.Sprintf("not compared: looks at other sales have failed for %s", auditPatience)
		}
	}
	if p[needsReady] >= auditPatience {
		return 1, ""
	}
	return auditTries, ""
}

// lost notes that a look failed.
func (p patience) lost(server string, err error, took time.Duration) {
	need := needsReady
	switch {
	case redis.Unavailable(err):
		need = server
	case store.Unavailable(err):
		need = needsDatabase
	}
	p[need] += took
}

// Run audits one sale, or all of them when id is empty. A store that cannot be asked is no error: the verdict says so,
// with the reason. Returns ErrNoSale for an unknown id, and the error of ctx when it ends.
func (a *Auditor) Run(ctx context.Context, id string) (Audit, error) {
	ids, err := a.listed(ctx, id)
	if errors.Is(err, ErrNoSale) {
		return Audit{}, err
	}
	result := Audit{Sales: make([]SaleAudit, 0, len(ids))}
	if err != nil {
		result.Problems = []string{err.Error()}
		result.away(err)
	}
	failing, serverOf := patience{}, map[string]string{}
	for server, sales := range a.lines.ByServer(ctx, ids) {
		for _, one := range sales {
			serverOf[one] = "server " + server
		}
	}
	for _, one := range ids {
		began := a.now()
		tries, over := failing.tries(serverOf[one])
		r, reasons, err := a.look(ctx, one, tries, over)
		result.away(err)
		if r.Verdict == "" {
			r = a.ledgerAlone(ctx, one, reasons)
			failing.lost(serverOf[one], err, a.now().Sub(began))
		}
		if ctx.Err() != nil {
			return Audit{}, ctx.Err()
		}
		result.Sales = append(result.Sales, r)
	}
	return result.judged(), ctx.Err()
}

// listed returns the sales to audit. With an error, the one asked for is still returned.
func (a *Auditor) listed(ctx context.Context, id string) ([]string, error) {
	var ids []string
	query := a.db.Read.WithContext(ctx).Table("sales").Order("created_at, id")
	if id != "" {
		query = query.Where("id = ?", id)
	}
	if err := query.Pluck("id", &ids).Error; err != nil {
		if id != "" {
			ids = []string{id}
		}
		return ids, fmt.Errorf("list the sales to audit: %w", err)
	}
	if id != "" && len(ids) == 0 {
		return nil, fmt.Errorf("%s: %w", id, ErrNoSale)
	}
	return ids, nil
}

// away remembers the first error that says that a store cannot be asked, or refuses.
func (a *Audit) away(err error) {
	if a.Away == nil && (redis.Unavailable(err) || store.Unavailable(err)) {
		a.Away = err
	}
}

// look compares the stores for one sale, in so many tries; over says why in none. Without a verdict, the reasons say
// why they could not be compared.
func (a *Auditor) look(ctx context.Context, id string, tries int, over string) (r SaleAudit, reasons []string,
	err error) {
	if tries == 0 {
		return r, []string{over}, nil
	}
	r, err = a.sale(ctx, id, true, tries)
	switch {
	case err != nil:
		return r, []string{err.Error()}, err
	case !r.Compared:
		return r, r.Problems, nil
	}
	r.Verdict = VerdictDifferent
	if r.Clean {
		r.Verdict = VerdictClean
	}
	return r, nil, nil
}

// ledgerAlone looks at what the database alone shows of a sale whose stores could not be compared, for these reasons.
// It is different when that is wrong already, else unknown.
func (a *Auditor) ledgerAlone(ctx context.Context, id string, reasons []string) SaleAudit {
	r := SaleAudit{Sale: id, Verdict: VerdictUnknown}
	none := queue.Snapshot{}
	saleCaches, err := a.readLedger(ctx, a.lines.Of(id), none, true)
	if err != nil {
		if r.Problems = reasons; !slices.Contains(reasons, err.Error()) {
			r.Problems = append(r.Problems, err.Error())
		}
		return r
	}
	r.Total, r.Available, r.Live, r.OverLimit, r.NoOutbox = saleCaches.stock.Total, saleCaches.stock.Available,
		saleCaches.live,
		saleCaches.overLimit, saleCaches.noOutbox
	r.Lost, r.Restored, r.Refused = saleCaches.eras.Lost, saleCaches.eras.Restored, saleCaches.eras.Refused
	r.classify(saleCaches.sale, none)
	if !r.Clean {
		r.Verdict = VerdictDifferent
	}
	r.Clean, r.Problems = false, append(r.Problems, reasons...)
	return r
}

// judged adds the verdict over all sales.
func (a Audit) judged() Audit {
	has := func(v Verdict) bool {
		return slices.ContainsFunc(a.Sales, func(s SaleAudit) bool { return s.Verdict == v })
	}
	a.Verdict = VerdictClean
	switch {
	case has(VerdictDifferent):
		a.Verdict = VerdictDifferent
	case has(VerdictUnknown) || len(a.Problems) > 0:
		a.Verdict = VerdictUnknown
	}
	if a.Verdict != VerdictUnknown {
		clean := a.Verdict == VerdictClean
		a.Clean = &clean
	}
	return a
}
