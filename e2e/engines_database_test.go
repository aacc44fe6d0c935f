package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/rewrite"
	"sluice/internal/testkit/servers"
)

// startEngine starts a database server that faults may harm. MariaDB writes a
// binary log, as one with replicas does.
func startEngine(ctx context.Context, driver string) (*servers.Server, error) {
	if driver == "postgres" {
		return servers.Postgres(ctx)
	}
	return servers.MySQLWith(ctx, "--log-bin=bin", "--binlog-format=MIXED", "--expire-logs-days=1")
}

// ownsDatabase reports a fault for which a run has a database server of its own.
func (f fault) ownsDatabase() bool {
	return slices.Contains([]string{dbKill, dbSettings, dbPromote}, f.kind)
}

// forgets reports whether a store loses something that it acknowledged, be it
// the contact of an order that the line brings back to the database.
func (p plan) forgets() bool {
	return p.lossy() || p.has(func(f fault) bool { return f.kind == dbPromote })
}

// named returns the fault's kind with its subject.
func (f fault) named() string {
	switch {
	case f.what == "":
		return f.kind
	case f.lies:
		return f.kind + " (" + f.what + " though it was done)"
	}
	return f.kind + " (" + f.what + ")"
}

// engineFault completes a fault of the database's own kind. SQLite has none;
// only PostgreSQL is promoted here.
func (c chance) engineFault(p plan, f fault) fault {
	if f.kind == dbPromote && p.driver != "postgres" {
		f.kind = dbSettings
	}
	switch f.kind {
	case dbSettings:
		f.what = pick(c, settingsOf(p.driver)).name
		f.node, f.hold = -1, c.ms(400, 1500)
	case dbCodes:
		drawn := pick(c, codesOf(p.driver))
		f.what, f.hold = drawn.code, c.ms(200, 900)
		f.lies = drawn.on != rewrite.OnConnect && c.of(25)
	case dbPromote:
		f.node, f.after, f.hold = -1, c.between(1, p.shoppers/3), c.ms(300, 900)
	}
	return f
}

// enginePlans hold the faults of engines on the driver that the other plans leave out.
func enginePlans() []plan {
	var plans []plan
	for i, one := range []struct{ kind, driver string }{
		{dbSettings, "mysql"}, {dbSettings, "postgres"}, {dbCodes, "mysql"}, {dbCodes, "postgres"}, {dbPromote,
			"postgres"},
	} {
		seed := uint64(200 + i)
		c := chanceOf(seed)
		p := c.sale(seed, one.driver)
		p.name, p.faults = fmt.Sprintf("engine-%s-%s", one.kind, one.driver), []fault{c.timed(p, one.kind)}
		plans = append(plans, p)
	}
	return plans
}

// engineStrike returns the function that carries out a fault of the database's own kind, or nil for other faults.
func (b *breaker) engineStrike(kind string) func(context.Context, fault) error {
	return map[string]func(context.Context, fault) error{
		dbSettings: b.spoilSettings, dbCodes: b.answerCodes, dbPromote: b.promote,
	}[kind]
}

// shop is the account of the processes on a server whose settings may be
// spoiled: an administrator would not be bound by them.
const shop = "shop"

// asShop returns a database as an account sees it that owns nothing else.
func asShop(t testing.TB, d testkit.Database) testkit.Database {
	t.Helper()
	db, err := sql.Open(sqlDriver(d.Driver), d.DSN)
	require.NoError(t, err)
	defer db.Close()
	run := func(statement string) {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	if d.Driver == "mysql" {
		config, err := mysql.ParseDSN(d.DSN)
		require.NoError(t, err)
		run("CREATE USER IF NOT EXISTS " + shop)
		run("GRANT ALL ON " + config.DBName + ".* TO " + shop)
		config.User = shop
		return testkit.Database{Driver: d.Driver, DSN: config.FormatDSN()}
	}
	run("DO $$ BEGIN CREATE ROLE " + shop + " LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	run("ALTER DATABASE " + databaseName(d) + " OWNER TO " + shop)
	dsn, err := withUser(d.DSN, shop)
	require.NoError(t, err)
	return testkit.Database{Driver: d.Driver, DSN: dsn}
}

// standby follows a PostgreSQL until its stream is cut.
type standby struct {
	server *servers.Server
	stream *testkit.Proxy
}

// newStandby starts a standby of a server; it ends with the test.
func newStandby(t testing.TB, primary *servers.Server) *standby {
	t.Helper()
	s := &standby{stream: testkit.NewProxy(t, primary.Addr())}
	var err error
	s.server, err = servers.PostgresStandby(t.Context(), s.stream.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.server.Close()) })
	return s
}

// promote cuts the stream to the standby, lets the sale go on, kills the
// primary, and has the standby take over its address: without the commits of
// the time between.
func (b *breaker) promote(ctx context.Context, f fault) error {
	s := b.cluster.stores
	defer b.loses(time.Now().Add(-slack))()
	s.standby.stream.Cut()
	_ = pause(ctx, f.hold)
	s.server.Kill()
	if err := servers.PromotePostgres(ctx, s.standby.server); err != nil {
		return err
	}
	return s.server.TakeOver(ctx, s.standby.server)
}

// answerCodes lets the proxies before one or all processes answer with a code.
func (b *breaker) answerCodes(ctx context.Context, f fault) error {
	refusal, err := codeNamed(b.cluster.stores.database.Driver, f.what)
	if err != nil {
		return err
	}
	refusal.Lies = f.lies
	proxies := b.cluster.db
	if f.node >= 0 {
		proxies = proxies[f.node : f.node+1]
	}
	return answerWith(proxies, refusal, func() { _ = pause(ctx, f.hold) })
}

// answerWith makes proxies answer meanwhile. Logins are refused to clients
// that have to log in anew.
func answerWith(proxies []*testkit.Proxy, refusal rewrite.Refusal, meanwhile func()) error {
	for _, p := range proxies {
		p.Refuse(refusal)
		if refusal.On == rewrite.OnConnect {
			p.Cut()
			if err := p.Heal(); err != nil {
				return err
			}
		}
	}
	meanwhile()
	for _, p := range proxies {
		p.Clear()
	}
	return nil
}
