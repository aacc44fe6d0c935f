package fleet_test

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"sluice/fleet"
	"sluice/internal/testkit"
	"sluice/store"
	"sluice/store/schema"
)

const patience = 20 * time.Second

// site is one database and one prefix of a Redis.
type site struct {
	t      *testing.T
	db     *store.DB
	rdb    redis.UniversalClient
	prefix string
	ahead  atomic.Int64 // nanoseconds the clock is ahead
}

func newSite(t *testing.T, driver string, rdb redis.UniversalClient, prefix string) *site {
	t.Helper()
	d := testkit.NewDatabase(t, driver)
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	db, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &site{t: t, db: db, rdb: rdb, prefix: prefix}
}

func (s *site) guard(name string, change func(*fleet.Parts)) *fleet.Guard {
	parts := fleet.Parts{DB: s.db, Owner: fleet.NewOwner(s.rdb, s.prefix),
		Self: schema.Process{Name: name, Version: "v1"}, Where: "here:1", Migrate: true,
		Log:       slog.New(slog.DiscardHandler),
		Instances: fleet.NewInstances(s.rdb, s.prefix, slog.New(slog.DiscardHandler)),
		Now:       func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }}
	if change != nil {
		change(&parts)
	}
	return fleet.NewGuard(parts, prometheus.NewRegistry())
}

// run lets a guard that has entered watch until the test ends.
func (s *site) run(g *fleet.Guard) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	s.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// S6.
func TestTwoInstallationsShareNoPrefix(t *testing.T) {
	t.Parallel()
	rdb := testkit.Redis(t).Client()
	one := newSite(t, "sqlite", rdb, "sluice")
	require.NoError(t, one.guard("a", nil).Enter(t.Context()))
	require.NoError(t, one.guard("b", nil).Enter(t.Context()), "the same installation")

	other := newSite(t, "sqlite", rdb, "sluice")
	err := other.guard("c", nil).Enter(t.Context())
	require.ErrorContains(t, err,
		`redis (here:1) and the database belong to different installations: redis.prefix "sluice" is installation `)
	require.ErrorContains(t, err, "give this one another redis.prefix")
	require.ErrorContains(t, err, "--adopt-redis")
	tables, err := other.db.Read.Migrator().GetTables()
	require.NoError(t, err)
	require.Empty(t, tables, "nothing was made in its database")
	other.prefix = "other"
	require.NoError(t, other.guard("c", nil).Enter(t.Context()))

	// Its database has an id by now, which the refusal names.
	other.prefix = "sluice"
	id, err := schema.Of(other.db).Installation(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, other.guard("c", nil).Enter(t.Context()), id)
	require.NoError(t, other.guard("c", func(p *fleet.Parts) { p.Adopt = true }).Enter(t.Context()))
	require.Equal(t, id, rdb.Get(t.Context(), "sluice:installation").Val())
	require.Error(t, one.guard("a", nil).Enter(t.Context()), "and the one before is out")
}

// A Redis from before owners were noted is adopted with what waits in it, one that was emptied is marked again.
func TestAnEmptiedRedisIsMarkedAgain(t *testing.T) {
	t.Parallel()
	rdb := testkit.Redis(t).Client()
	require.NoError(t, rdb.HSet(t.Context(), "sluice:{phone/0}:meta", "epoch", 1).Err())
	s := newSite(t, "sqlite", rdb, "sluice")
	g := s.guard("a", nil)
	require.NoError(t, g.Enter(t.Context()))
	id := rdb.Get(t.Context(), "sluice:installation").Val()
	require.Len(t, id, 36)
	s.run(g)
	require.NoError(t, rdb.FlushAll(t.Context()).Err())
	require.Eventually(t, func() bool { return rdb.Get(t.Context(), "sluice:installation").Val() == id }, patience,
		10*time.Millisecond)
	require.NoError(t, g.Err())

	// Another data set under the running process.
	require.NoError(t, rdb.Set(t.Context(), "sluice:installation", "another", 0).Err())
	require.Eventually(t, func() bool { return g.Err() != nil }, patience, 10*time.Millisecond)
	require.ErrorContains(t, g.Err(), "is installation another, the database is installation "+id)
	require.NoError(t, rdb.Del(t.Context(), "sluice:installation").Err())
	require.Eventually(t, func() bool { return g.Err() == nil }, patience, 10*time.Millisecond)
}

func TestARunningProcessStopsWhenTheDatabaseLeavesItBehind(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"sqlite", "mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, driver, testkit.Redis(t).Client(), "sluice")
			g := s.guard("a", nil)
			require.NoError(t, g.Enter(t.Context()))
			s.run(g)
			running, err := schema.Of(s.db).Processes(t.Context())
			require.NoError(t, err)
			require.Len(t, running, 1)
			require.Equal(t, g.Self.Schema, running[0].Schema)

			require.NoError(t, s.db.Write.Exec("UPDATE installation SET schema_newest = 99, schema_least = 99").Error)
			require.Eventually(t, func() bool { return g.Err() != nil }, patience, 10*time.Millisecond)
			require.ErrorContains(t, g.Err(), "the database wants processes that know version 99")
			require.Error(t, g.Stale())
			require.ErrorContains(t, s.guard("b", nil).Enter(t.Context()), "this build is too old for the database")
			require.NoError(t, s.db.Write.Exec("UPDATE installation SET schema_least = 0").Error)
			require.Eventually(t, func() bool { return g.Err() == nil }, patience, 10*time.Millisecond)
		})
	}
}

// A database that was replaced under a running process is not its own, whatever its schema.
func TestAnotherDatabaseUnderARunningProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	g := s.guard("a", nil)
	require.NoError(t, g.Enter(t.Context()))
	s.run(g)
	require.NoError(t, s.db.Write.Exec("UPDATE installation SET id = 'another'").Error)
	require.Eventually(t, func() bool { return g.Err() != nil }, patience, 10*time.Millisecond)
	require.ErrorContains(t, g.Err(), `the database is not the one that this process started with`)
}

// In a Redis of the process's own, whoever is named has ended.
func TestNobodyElseLivesInAPrivateRedis(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	until := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	require.NoError(t, s.rdb.HSet(t.Context(), "sluice:{instances}", "killed",
		"1 "+until+` {"version":"d3c6ac5"}`).Err())
	require.ErrorContains(t, s.guard("a", nil).Enter(t.Context()), "Stop these first: killed")
	require.NoError(t, s.guard("a", func(p *fleet.Parts) { p.Alone = true }).Enter(t.Context()))
}

// A process that stood still drains nothing before it has read the schema again.
func TestAProcessThatStoodStillLooksFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	g := s.guard("a", nil)
	require.Error(t, g.Stale(), "it has looked at nothing")
	require.NoError(t, g.Enter(t.Context()))
	require.NoError(t, g.Stale())
	s.ahead.Store(int64(11 * time.Second))
	require.ErrorContains(t, g.Stale(), "was last read more than 10s ago")
	s.run(g)
	require.Eventually(t, func() bool { return g.Stale() == nil }, patience, 10*time.Millisecond)
}

func TestAnOperatorWhoMigratesByHandIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	err := s.guard("a", func(p *fleet.Parts) { p.Migrate = false }).Enter(t.Context())
	require.ErrorContains(t, err, "run `sluice migrate up`")
}

// A build from before ranges is alive in Redis and nowhere else.
func TestABuildFromBeforeKeepsANewOneFromMigrating(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	old := fleet.NewInstances(s.rdb, "sluice", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		old.Run(ctx, func() fleet.Instance { return fleet.Instance{ID: "host-1", Version: "d3c6ac5"} })
	})
	require.Eventually(t, func() bool { return s.rdb.HLen(t.Context(), "sluice:{instances}").Val() == 1 }, patience,
		time.Millisecond)
	err := s.guard("a", nil).Enter(t.Context())
	cancel()
	running.Wait()
	require.ErrorContains(t, err, "Stop these first: host-1 (version d3c6ac5)")
	require.NoError(t, s.guard("a", nil).Enter(t.Context()), "it has gone")
}

// What takes long beside the looks, such as a change of a big table, keeps the process neither from being seen nor from
// knowing the schema. Here a Redis that hangs stands for it.
func TestLooksGoOnWhileItTidies(t *testing.T) {
	t.Parallel()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	asked := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := hung.Accept()
			if err != nil {
				close(asked)
				return
			}
			asked <- conn
		}
	}()
	s := newSite(t, "sqlite", testkit.Redis(t).Client(), "sluice")
	nobody := redis.NewClient(&redis.Options{Addr: hung.Addr().String(), ReadTimeout: time.Minute, MaxRetries: -1})
	entered := s.guard("a", nil)
	require.NoError(t, entered.Enter(t.Context()), "nothing is pending from now on")
	g := s.guard("a", func(p *fleet.Parts) {
		p.Instances = fleet.NewInstances(nobody, s.prefix, slog.New(slog.DiscardHandler))
	})
	require.NoError(t, g.Enter(t.Context()))
	s.run(g)
	t.Cleanup(func() { // before the guard is waited for
		require.NoError(t, nobody.Close())
		require.NoError(t, hung.Close())
		for conn := range asked {
			require.NoError(t, conn.Close())
		}
	})
	s.ahead.Store(int64(11 * time.Second))
	select {
	case conn := <-asked:
		asked <- conn
	case <-time.After(patience):
		require.Fail(t, "it does not ask who runs")
	}
	seen := func() time.Time {
		running, err := schema.Of(s.db).Processes(t.Context())
		require.NoError(t, err)
		require.Len(t, running, 1)
		return running[0].Seen
	}
	before := seen()
	require.Eventually(t, func() bool { return seen().After(before) }, patience/2, 20*time.Millisecond)
	before = seen()
	require.Eventually(t, func() bool { return seen().After(before) }, patience/2, 20*time.Millisecond, "and on")
	require.NoError(t, g.Stale())
}
