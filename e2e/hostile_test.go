package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/rewrite"
)

const (
	hostileHold  = 700 * time.Millisecond
	codeHold     = 250 * time.Millisecond
	mendPatience = 30 * time.Second // a busy machine, and pauses that have grown
	hostileStock = 1_000_000
)

// hostileSystem runs a gateway and a worker on a database server of its own,
// to which an administrator has access. The last result sees the database as
// its owner does, whatever the shop's account may do.
func hostileSystem(t *testing.T, driver string) (*cluster, *admin, *sql.DB) {
	t.Helper()
	server, err := startEngine(t.Context(), driver)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	owned := testkit.NewDatabaseOn(t, testkit.Database{Driver: driver, DSN: adminDSN(driver, server)})
	owner, err := sql.Open(sqlDriver(driver), owned.DSN)
	require.NoError(t, err)
	owner.SetMaxOpenConns(1)
	t.Cleanup(func() { require.NoError(t, owner.Close()) })
	database := asShop(t, owned)
	a, err := newAdmin(database, server)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.sql.Close()) })
	c := startCluster(t, openStores(t, database, server), system{
		layout: layout{"gateway", "worker,notifier"}, env: []string{patientLease},
		logs: keptLogs(t, "settings-"+driver),
	})
	return c, a, owner
}

// TestHostileSettingsOfADatabaseHarmNoOrder makes a server refuse for reasons that no order has caused. Nothing is
// counted against one, and all are confirmed once the server is mended, without a restart of anything.
func TestHostileSettingsOfADatabaseHarmNoOrder(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			c, a, owner := hostileSystem(t, driver)
			b := openBuyers(t, c, "hostile", hostileStock)
			for _, s := range settingsOf(driver) {
				var before, after int
				var first, second error
				count := func(n *int) error {
					return owner.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders").Scan(n)
				}
				require.NoError(t, b.during(t.Context(), func() error {
					return s.strike(t.Context(), a, func() {
						_ = pause(t.Context(), hostileHold/3) // what had begun is done
						first = count(&before)
						_ = pause(t.Context(), hostileHold)
						second = count(&after)
					})
				}), s.name)
				require.NoError(t, errors.Join(first, second), s.name)
				t.Logf("%s: %d orders went through, %d were accepted so far", s.name, after-before, len(b.orders()))
				require.Eventually(t, func() bool { return b.unconfirmed(t.Context()) == "" }, mendPatience,
					20*time.Millisecond,
					"%s was mended; logs in %s", s.name, c.logs)
				b.faultless(t, s.name)
				require.False(t, s.total && after > before, "%s let %d orders through", s.name, after-before)
			}
			requireClean(t, c)
		})
	}
}

// TestCodesOfProxiesAndClustersHarmNoOrder answers with codes of proxies and clusters in place of a database. None of
// them is a row's fault, whichever command it answers.
func TestCodesOfProxiesAndClustersHarmNoOrder(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"mysql", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			s := openStores(t, testkit.NewDatabase(t, driver), nil)
			c := startCluster(t, s, system{layout: layout{"gateway", "worker,notifier"},
				env: []string{patientLease}, logs: keptLogs(t, "codes-"+driver)})
			b := openBuyers(t, c, "codes", hostileStock)
			for _, one := range codesOf(driver) {
				refusal, err := codeNamed(driver, one.code)
				require.NoError(t, err)
				for _, lies := range []bool{false, true} {
					if refusal.Lies = lies; lies && refusal.On == rewrite.OnConnect {
						continue
					}
					before := c.db[1].Refused()
					require.NoError(t, b.during(t.Context(), func() error {
						return answerWith(c.db, refusal, func() {
							refused := func() bool { return c.db[1].Refused() > before }
							await(t.Context(), codeHold, refused)
						})
					}))
					require.Greater(t, c.db[1].Refused(), before, "%s was answered to nobody", one.code)
					require.Eventually(t, func() bool { return b.unconfirmed(t.Context()) == "" }, mendPatience,
						10*time.Millisecond,
						"after %s (done all the same: %v): %s; logs in %s", one.code, lies, b.unconfirmed(
							t.Context()), c.logs)
					b.faultless(t, one.code)
				}
			}
			requireClean(t, c)
		})
	}
}

// await returns after a while, but not before something has happened, unless patience is over.
func await(ctx context.Context, least time.Duration, happened func() bool) {
	ctx, cancel := context.WithTimeout(ctx, mendPatience)
	defer cancel()
	for err := pause(ctx, least); err == nil && !happened(); {
		err = pause(ctx, 5*time.Millisecond)
	}
}

// requireClean waits for a clean audit: what was on its way may still be.
func requireClean(t *testing.T, c *cluster) {
	t.Helper()
	var last reply
	require.Eventually(t, func() bool {
		a, err := c.admin(t.Context(), c.nodes[0], http.MethodGet, "/audit", nil)
		var result auditResult
		last = a
		return err == nil && json.Unmarshal(a.Raw, &result) == nil && result.Verdict == "clean"
	}, mendPatience, 50*time.Millisecond, "the audit is not clean")
	require.Equal(t, http.StatusOK, last.Status, "%s", last.Raw)
}
