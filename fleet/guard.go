// Package fleet keeps a process with its own. It works only on a database whose schema it knows, beside processes
// that know it too. And it works only on the Redis that belongs to that database.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/store"
	"sluice/store/schema"
)

// Parts are what a Guard stands on.
type Parts struct {
	DB        *store.DB
	Owner     *Owner
	Instances *Instances
	Self      schema.Process // its Schema is filled in
	Where     string         // names the Redis to a reader: an address, or a folder
	Migrate   bool           // whether this process changes the schema itself
	Alone     bool           // no other process reaches this Redis: whom it names has ended
	Adopt     bool           // take over a Redis that belongs to another installation
	Log       *slog.Logger
	Now       func() time.Time
}

const (
	lookEvery  = 3 * time.Second        // how often the stores are looked at
	lookAgain  = 500 * time.Millisecond // the same after a look that failed
	lookStale  = 10 * time.Second       // older looks say nothing; shorter than the lapse of a silent process
	tidyEvery  = 10 * time.Second       // how often waiting migrations are tried and older builds are looked for
	leaveLimit = 2 * time.Second
)

// Guard says whether this process may work. Safe for concurrent use.
type Guard struct {
	Parts
	id string // of the installation, from the database

	barred atomic.Pointer[barred]
	looked atomic.Pointer[time.Time] // when the database was last read

	mu       sync.Mutex
	standing schema.Standing
	told     string // what was last logged
	silent   string // the builds without a range that were last warned of; of the tidying loop
}

// barred is why a process must not work: errors that are nil do not keep it.
type barred struct {
	schema error // it must not use the database
	owner  error // it must not use Redis
}

// NewGuard returns a guard that has looked at nothing yet: see Enter.
func NewGuard(parts Parts, reg prometheus.Registerer) *Guard {
	g := &Guard{Parts: parts}
	g.barred.Store(&barred{})
	g.looked.Store(&time.Time{})
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_schema_version",
		Help: "The newest schema version that is applied to the database, as this process last saw it.",
	}, func() float64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return float64(g.standing.Version)
	}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_schema_waiting",
		Help: "Contracting migrations that wait for older processes to end."}, func() float64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return float64(len(g.standing.Waiting))
	}))
	return g
}

// Enter checks that both stores belong together and notes that the process runs. It brings the schema up to date
// where this process may. After an error the process must not start; the error says what to do.
func (g *Guard) Enter(ctx context.Context) (err error) {
	if g.Self.Schema, err = schema.Of(g.DB).Range(); err != nil {
		return err
	}
	if err := g.known(ctx); err != nil {
		return err
	}
	if err := g.migrate(ctx); err != nil {
		return err
	}
	if g.id, err = schema.Of(g.DB).Found(ctx, g.Now()); err != nil {
		return err
	}
	if err := g.own(ctx); err != nil {
		return err
	}
	// Noted first, read then: whoever contracts the schema meanwhile either sees this process or is seen.
	if err := schema.Of(g.DB).Beat(ctx, g.Self); err != nil {
		return err
	}
	if err := g.look(ctx); err != nil {
		return err
	}
	return g.Err()
}

// known refuses a Redis of another installation before anything is written to the database. Redis is read first: who
// owns it was in the database by then.
func (g *Guard) known(ctx context.Context) error {
	owner, err := g.Owner.ID(ctx)
	if err != nil || owner == "" || g.Adopt {
		return err
	}
	id, err := schema.Of(g.DB).Installation(ctx)
	if err != nil || id == owner {
		return err
	}
	return g.foreign(owner, id)
}

// own makes this installation the owner of its prefix, or refuses.
func (g *Guard) own(ctx context.Context) error {
	owner, err := g.Owner.Claim(ctx, g.id)
	if err != nil || owner == g.id {
		return err
	}
	if !g.Adopt {
		return g.foreign(owner, g.id)
	}
	g.Log.WarnContext(ctx, "taking over a redis that belonged to another installation; start "+
		"without --adopt-redis next time",
		"prefix", g.Owner.Prefix(), "was", owner, "is", g.id)
	return g.Owner.Take(ctx, g.id)
}

// foreign says that Redis and database do not belong together, and what to do.
func (g *Guard) foreign(owner, id string) error {
	mine := "installation " + id
	if id == "" {
		mine = "no installation yet"
	}
	return fmt.Errorf("redis (%s) and the database belong to different installations: redis.prefix %q is installation "+
		"%s, the database is %s. If they are two, give this one another redis.prefix or another Redis. "+
		"If this database replaces one that was lost, start one process with --adopt-redis: "+
		"what waits in that Redis is then this database's",
		g.Where, g.Owner.Prefix(), owner, mine)
}

// migrate brings the tables up to date or, where that is left to the operator, says what is missing.
func (g *Guard) migrate(ctx context.Context) error {
	if !g.Migrate {
		return g.ready(ctx)
	}
	done, err := schema.Of(g.DB).MigrateBeside(ctx, g.registry())
	if err != nil {
		return err
	}
	g.report(ctx, done)
	return nil
}

// ready checks the schema as migrate does, where an operator changes it.
func (g *Guard) ready(ctx context.Context) error {
	standing, err := schema.Of(g.DB).Look(ctx)
	if err != nil {
		return err
	}
	if len(standing.Waiting) > 0 {
		g.Log.InfoContext(ctx, "contracting migrations wait: run `sluice migrate up` when older processes have ended",
			"migrations", len(standing.Waiting), "first", standing.Waiting[0].Name)
	}
	return errors.Join(standing.Refuses(), standing.Lacks())
}

// registry lists the other processes that Redis knows of.
func (g *Guard) registry() schema.Registry {
	if g.Alone {
		return nil
	}
	return g.Instances.Processes
}

func (g *Guard) report(ctx context.Context, done schema.Migrated) {
	if len(done.Applied) > 0 {
		g.Log.InfoContext(ctx, "database migrated", "applied", len(done.Applied))
	}
	if len(done.Waiting) > 0 {
		g.Log.InfoContext(ctx, "contracting migrations wait for older processes to end; "+
			"they are applied by themselves then",
			"migrations", len(done.Waiting), "first", done.Waiting[0].Name, "for", schema.Listed(done.For))
	}
}
