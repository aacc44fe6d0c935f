package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/store/schema"
)

// Run looks at both stores again and again until ctx ends, and then notes that the process ends.
func (g *Guard) Run(ctx context.Context) {
	defer g.leave(ctx)
	var tidying sync.WaitGroup
	defer tidying.Wait()
	tidying.Go(func() { g.keepTidy(ctx) })
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		next := lookEvery
		if err := errors.Join(g.beat(ctx), g.look(ctx)); err != nil {
			next = lookAgain
		}
		timer.Reset(next)
	}
}

// keepTidy tidies every ten seconds until ctx ends. It is beside the looks: a change of a big table takes long. So
// does the wait for another instance that makes one.
func (g *Guard) keepTidy(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	tidied := g.Now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := g.Now(); now.Sub(tidied) >= tidyEvery && g.Err() == nil {
			tidied = now
			g.tidy(ctx)
		}
	}
}

func (g *Guard) beat(ctx context.Context) error {
	if g.Err() != nil {
		return nil // it does not work, and nobody has to wait for it
	}
	return schema.Of(g.DB).Beat(ctx, g.Self)
}

// look reads both stores. What cannot be read is left as it was.
func (g *Guard) look(ctx context.Context) error {
	standing, broken := schema.Of(g.DB).Look(ctx)
	owner, away := g.Owner.Claim(ctx, g.id)
	now := g.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	next := *g.barred.Load()
	if broken == nil {
		g.standing, next.schema = standing, g.verdict(standing)
		g.looked.Store(&now)
	}
	if away == nil {
		next.owner = nil
		if owner != g.id {
			next.owner = g.foreign(owner, g.id)
		}
	}
	g.barred.Store(&next)
	g.tell(ctx)
	return errors.Join(broken, away)
}

func (g *Guard) verdict(s schema.Standing) error {
	if s.ID != g.id {
		return fmt.Errorf("the database is not the one that this process started with: "+
			"it was installation %s and is %q. "+
			"Look at database.dsn and where it leads, and restart this process", g.id, s.ID)
	}
	return s.Refuses()
}

// tell logs when the process stops working and when it goes on. The caller holds mu.
func (g *Guard) tell(ctx context.Context) {
	text := ""
	if err := g.Err(); err != nil {
		text = err.Error()
	}
	if text == g.told {
		return
	}
	if g.told = text; text != "" {
		g.Log.ErrorContext(ctx, "this process stops admitting and draining", "reason", text)
		return
	}
	g.Log.InfoContext(ctx, "this process admits and drains again")
}

// Err returns why this process must neither admit nor drain; nil while it may.
func (g *Guard) Err() error {
	why := g.barred.Load()
	if why.schema != nil {
		return why.schema
	}
	return why.owner
}

// Owned returns what Err does, after a fresh look at whose Redis it is. Before a line is loaded, three seconds are
// too long not to know.
func (g *Guard) Owned(ctx context.Context) error {
	if err := g.Err(); err != nil {
		return err
	}
	owner, err := g.Owner.ID(ctx)
	if err != nil || owner == "" || owner == g.id {
		return err
	}
	return g.foreign(owner, g.id)
}

// Stale returns Err, or an error when the database was last read too long ago. The process may have stood still.
// Others may then have taken it for gone and changed the schema.
func (g *Guard) Stale() error {
	if err := g.Err(); err != nil {
		return err
	}
	if g.Now().Sub(*g.looked.Load()) > lookStale {
		return fmt.Errorf("the schema of the database was last read more than %s ago", lookStale)
	}
	return nil
}

// tidy applies contracting migrations that have waited, and warns of builds that tell no range.
func (g *Guard) tidy(ctx context.Context) {
	g.mu.Lock()
	waiting := len(g.standing.Waiting)
	g.mu.Unlock()
	if waiting > 0 && g.Migrate {
		done, err := schema.Of(g.DB).MigrateBeside(ctx, g.registry())
		if err != nil && ctx.Err() == nil {
			g.Log.WarnContext(ctx, "contracting migrations go on waiting", "error", err)
		} else if len(done.Applied) > 0 {
			g.report(ctx, done)
		}
	}
	if g.Alone {
		return
	}
	running, err := g.registry()(ctx)
	if err != nil {
		return // the heartbeat says so already
	}
	var silent []schema.Process
	for _, p := range running {
		if p.Schema == (schema.Range{}) {
			silent = append(silent, p)
		}
	}
	if listed := schema.Listed(silent); listed != g.silent {
		if g.silent = listed; listed != "" {
			g.Log.WarnContext(ctx, "processes run whose build does not tell which schema it needs, "+
				"and cannot be kept from "+
				"harm: stop them",
				"processes", listed)
		}
	}
}

func (g *Guard) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	if err := schema.Of(g.DB).Leave(ctx, g.Self.Name); err != nil {
		g.Log.WarnContext(ctx, "that this process ends is not noted: contracting migrations wait some seconds longer",
			"error", err)
	}
}
