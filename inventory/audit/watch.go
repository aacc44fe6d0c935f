package audit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sluice/internal/apart"
)

const (
	// watchEvery is how often the difference between ledger and line is measured.
	watchEvery = 4 * time.Second
	// watchAgain is when a difference is looked at again: one that stands is mended.
	watchAgain = time.Second
	// watchShare bounds what measuring may cost: after audits that took a second comes a pause of fifty.
	watchShare = 50
	// longestLine is the longest line that is measured in the background. The look at a longer one would hold Redis
	// up for more than some 10 ms. Its last value stays until it is shorter; an audit that is asked for looks at any.
	longestLine   = 10_000
	serversAtOnce = 16 // servers of a cluster whose lines are measured at a time
	// watchFirst is how long a process runs before it audits. By then its cache knows how long the lines are. And a
	// worker that was started to work off a backlog has begun.
	watchFirst = 500 * time.Millisecond
)

// Run audits every sale now and then until ctx ends, the lines of each server in turns of its own.
func (g *Gauges) Run(ctx context.Context) {
	rounds := apart.New(serversAtOnce, watchAgain)
	defer rounds.Wait()
	next := time.NewTimer(watchFirst)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		on := g.auditor.lines.ByServer(ctx, g.cache.Active())
		rounds.Round(ctx, g.due(slices.Sorted(maps.Keys(on))), func(ctx context.Context, server string) error {
			if err := g.measureOn(ctx, server, on[server]); err != nil && ctx.Err() == nil {
				g.log.Warn("audit could not be made", "error", err)
			}
			return nil
		}, func(_ string, err error) { g.log.Error("an audit panicked", "error", err) })
		next.Reset(watchAgain)
	}
}

// due returns those of the servers whose lines are to be audited again.
func (g *Gauges) due(servers []string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	return slices.DeleteFunc(servers, func(server string) bool { return now.Before(g.next[server]) })
}

// measure audits every sale once.
func (g *Gauges) measure(ctx context.Context) error {
	var failed []error
	for server, sales := range g.auditor.lines.ByServer(ctx, g.cache.Active()) {
		failed = append(failed, g.measureOn(ctx, server, sales))
	}
	return errors.Join(failed...)
}

// measureOn audits the sales whose lines are on one server, those first that have waited longest. A look that fails
// says nothing about the others. After some time of such looks the rest waits for the next turn.
func (g *Gauges) measureOn(ctx context.Context, server string, sales []string) error {
	var audits []Sale
	var failed []error
	var spent, failing time.Duration
	for _, id := range g.inTurn(sales) {
		if failing >= failingLimit {
			break
		}
		if e, ok := g.cache.Get(id); ok && e.View().Waiting > longestLine {
			continue
		}
		began := g.audited(id)
		one, err := g.auditor.Balance(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took := g.now().Sub(began)
		if err != nil {
			failed, failing = append(failed, err), failing+took
			continue
		}
		audits, spent = append(audits, one), spent+took
	}
	g.show(audits)
	pause := max(watchEvery, watchShare*spent)
	if g.mendStanding(ctx, audits) {
		pause = watchAgain
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next[server] = g.now().Add(pause)
	return errors.Join(failed...)
}

// audited notes that a sale is audited now.
func (g *Gauges) audited(sale string) (now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now = g.now()
	g.turn[sale] = now
	return now
}

// inTurn returns the sales, those first that were audited longest ago.
func (g *Gauges) inTurn(sales []string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	sales = slices.Clone(sales)
	slices.SortStableFunc(sales, func(a, b string) int { return g.turn[a].Compare(g.turn[b]) })
	return sales
}

// show keeps what was found for the next collection. A sale that was not compared keeps its last value.
func (g *Gauges) show(audits []Sale) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found, missing := make(map[string]int64, len(audits)), make(map[string]int64, len(audits))
	for _, id := range g.cache.Active() {
		if was, ok := g.found[id]; ok {
			found[id], missing[id] = was, g.missing[id]
		}
	}
	for _, s := range audits {
		if !s.Compared {
			g.log.Warn("sale could not be audited", "sale", s.Sale, "why", s.Problems)
			continue
		}
		found[s.Sale], missing[s.Sale] = s.Difference, s.Missing
		if !s.Clean {
			g.log.Error("audit found a problem", "sale", s.Sale, "difference", s.Difference, "problems", s.Problems)
		}
	}
	g.found, g.missing = found, missing
	for id := range g.differed {
		if _, active := found[id]; !active {
			delete(g.differed, id)
		}
	}
}

// mendStanding mends the differences that stand: the same as at the look before, under the same loading of the line. It
// reports whether there are new ones.
func (g *Gauges) mendStanding(ctx context.Context, audits []Sale) (found bool) {
	for _, s := range audits {
		was, known := g.takeDiffered(s)
		if s.Compared && (s.Difference != 0 || s.Missing != 0) {
			if known && was.Epoch == s.Epoch && was.Difference == s.Difference && was.Missing == s.Missing &&
				g.mend != nil {
				g.mend(ctx, s)
				continue
			}
			g.noteDiffered(s)
			found = true
		}
	}
	return found
}

// takeDiffered takes what was found of a sale at the look before.
func (g *Gauges) takeDiffered(s Sale) (was Sale, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known = g.differed[s.Sale]
	delete(g.differed, s.Sale)
	return was, known
}

// noteDiffered keeps what differed, for the next look.
func (g *Gauges) noteDiffered(s Sale) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.differed[s.Sale] = s
}

// MendBy names what is done about a difference that stands. Call it before Run.
func (g *Gauges) MendBy(mend func(ctx context.Context, s Sale)) { g.mend = mend }
