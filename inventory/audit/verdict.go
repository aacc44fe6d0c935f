package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/inventory"
	"sluice/queue"
	"sluice/store"
	"sluice/store/redis"
)

// Verdict is what an audit has found out.
type Verdict string

// The verdicts. A difference that was found wins over what could not be looked at.
const (
	Clean     Verdict = "clean"     // everything was looked at, and nothing differs
	Different Verdict = "different" // something differs
	Unknown   Verdict = "unknown"   // a store could not be asked, or a line was not ready
)

// Report is the result over all sales asked for.
type Report struct {
	Verdict  Verdict  `json:"verdict"`
	Clean    *bool    `json:"clean"`              // nil: unknown
	Problems []string `json:"problems,omitempty"` // why the sales could not be listed
	Sales    []Sale   `json:"sales"`
	Away     error    `json:"-"` // why a store could not be asked; nil when each answered
}

// Of returns the ids of the sales with this verdict.
func (a Report) Of(v Verdict) []string {
	var ids []string
	for _, s := range a.Sales {
		if s.Verdict == v {
			ids = append(ids, s.Sale)
		}
	}
	return ids
}

// failingLimit bounds the time that an audit spends on looks that fail. Where a store did not answer for so long, the
// sales that need it are looked at without it. Where lines were not ready, the rest is looked at once each.
const failingLimit = 5 * time.Second

// failures are how long looks have failed, by what they needed. That is the database, a server of Redis, or lines
// that are ready.
type failures map[string]time.Duration

const (
	needsDatabase = "the database"
	needsReady    = "lines that are ready"
)

// tries returns how often a sale may be looked at whose line is on a server, or why not.
func (f failures) tries(server string) (n int, over string) {
	for _, need := range [...]string{needsDatabase, server} {
		if f[need] >= failingLimit {
			return 0, fmt.Sprintf("not compared: looks at other sales have failed for %s", failingLimit)
		}
	}
	if f[needsReady] >= failingLimit {
		return 1, ""
	}
	return mostTries, ""
}

// add notes that a look failed.
func (f failures) add(server string, err error, took time.Duration) {
	need := needsReady
	switch {
	case redis.Unavailable(err):
		need = server
	case store.Unavailable(err):
		need = needsDatabase
	}
	f[need] += took
}

// Run audits one sale, or all of them when id is empty. A store that cannot be asked is no error: the verdict says so,
// with the reason. Returns ErrNoSale for an unknown id, and the error of ctx when it ends.
func (a *Auditor) Run(ctx context.Context, id string) (Report, error) {
	ids, err := a.salesToAudit(ctx, id)
	if errors.Is(err, inventory.ErrNoSale) {
		return Report{}, err
	}
	result := Report{Sales: make([]Sale, 0, len(ids))}
	if err != nil {
		result.Problems = []string{err.Error()}
		result.noteUnavailable(err)
	}
	failing, serverOf := failures{}, map[string]string{}
	for server, sales := range a.lines.ByServer(ctx, ids) {
		for _, one := range sales {
			serverOf[one] = "server " + server
		}
	}
	for _, one := range ids {
		began := a.now()
		tries, over := failing.tries(serverOf[one])
		r, reasons, err := a.look(ctx, one, tries, over)
		result.noteUnavailable(err)
		if r.Verdict == "" {
			r = a.ledgerAlone(ctx, one, reasons)
			failing.add(serverOf[one], err, a.now().Sub(began))
		}
		if ctx.Err() != nil {
			return Report{}, ctx.Err()
		}
		result.Sales = append(result.Sales, r)
	}
	return result.withVerdict(), ctx.Err()
}

// salesToAudit returns the ids of the sales. With an error, the one asked for is still returned.
func (a *Auditor) salesToAudit(ctx context.Context, id string) ([]string, error) {
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
		return nil, fmt.Errorf("%s: %w", id, inventory.ErrNoSale)
	}
	return ids, nil
}

// noteUnavailable remembers the first error that says that a store cannot be asked, or refuses.
func (a *Report) noteUnavailable(err error) {
	if a.Away == nil && (redis.Unavailable(err) || store.Unavailable(err)) {
		a.Away = err
	}
}

// look compares the stores for one sale, in so many tries; over says why in none. Without a verdict, the reasons say
// why they could not be compared.
func (a *Auditor) look(ctx context.Context, id string, tries int, over string) (r Sale, reasons []string,
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
	r.Verdict = Different
	if r.Clean {
		r.Verdict = Clean
	}
	return r, nil, nil
}

// ledgerAlone looks at what the database alone shows of a sale whose stores could not be compared, for these reasons.
// It is different when that is wrong already, else unknown.
func (a *Auditor) ledgerAlone(ctx context.Context, id string, reasons []string) Sale {
	r := Sale{Sale: id, Verdict: Unknown}
	none := queue.Snapshot{}
	ledger, err := a.readLedger(ctx, a.lines.Of(id), none, true)
	if err != nil {
		if r.Problems = reasons; !slices.Contains(reasons, err.Error()) {
			r.Problems = append(r.Problems, err.Error())
		}
		return r
	}
	r.Total, r.Available, r.Live, r.OverLimit, r.NoOutbox = ledger.stock.Total, ledger.stock.Available,
		ledger.live,
		ledger.overLimit, ledger.noOutbox
	r.Lost, r.Restored, r.Refused = ledger.eras.Lost, ledger.eras.Restored, ledger.eras.Refused
	r.classify(ledger.sale, none)
	if !r.Clean {
		r.Verdict = Different
	}
	r.Clean, r.Problems = false, append(r.Problems, reasons...)
	return r
}

// withVerdict adds the verdict over all sales.
func (a Report) withVerdict() Report {
	has := func(v Verdict) bool {
		return slices.ContainsFunc(a.Sales, func(s Sale) bool { return s.Verdict == v })
	}
	a.Verdict = Clean
	switch {
	case has(Different):
		a.Verdict = Different
	case has(Unknown) || len(a.Problems) > 0:
		a.Verdict = Unknown
	}
	if a.Verdict != Unknown {
		clean := a.Verdict == Clean
		a.Clean = &clean
	}
	return a
}
