package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
	"sluice/internal/testkit/servers"
)

const (
	promotedStock   = 120
	restorePatience = 10 * time.Second // a difference stands no longer
	latecomersFor   = 2 * time.Second
)

// TestAPromotedDatabaseGetsBackWhatWasConfirmed promotes a PostgreSQL that lacks the last commits, and so confirmed
// orders. They are in it again before anybody else gets their units: the sale was sold out, and stays so.
func TestAPromotedDatabaseGetsBackWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	server, err := startEngine(t.Context(), "postgres")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	database := testkit.NewDatabaseOn(t, testkit.Database{Driver: "postgres", DSN: adminDSN("postgres", server)})
	s := openStores(t, database, server)
	c := startCluster(t, s, system{
		layout: layout{"gateway", "gateway", "worker,notifier"}, env: []string{patientLease},
		logs: keptLogs(t, "promoted"),
	})
	b := openBuyers(t, c, "promoted", promotedStock)
	s.standby = newStandby(t, server)

	sell := func(until int) {
		t.Helper()
		require.NoError(t, b.during(t.Context(), func() error {
			require.Eventually(t, func() bool { return len(b.orders()) >= until }, loadPatience, 2*time.Millisecond)
			return nil
		}))
		require.Eventually(t, func() bool { return b.unconfirmed(t.Context()) == "" },
			mendPatience, 10*time.Millisecond, "%d orders", until)
	}
	sell(promotedStock / 2)
	kept := 0
	require.Eventually(t, func() bool {
		kept, err = rowsOf(t.Context(), s.standby.server, database)
		return err == nil && kept >= promotedStock/2
	}, mendPatience, 10*time.Millisecond, "the standby follows")
	s.standby.stream.Cut()
	sell(promotedStock)
	for id, user := range b.orders() {
		require.Equal(t, "confirmed", b.state(t, id, user))
	}
	kept, err = rowsOf(t.Context(), s.standby.server, database)
	require.NoError(t, err)
	require.Less(t, kept, promotedStock, "the standby lacks the last commits")
	sold := b.orders()

	require.NoError(t, b.during(t.Context(), func() error {
		server.Kill()
		if err := servers.PromotePostgres(t.Context(), s.standby.server); err != nil {
			return err
		}
		if err := server.TakeOver(t.Context(), s.standby.server); err != nil {
			return err
		}
		promoted := time.Now()
		require.Eventually(t, func() bool { return b.unconfirmed(t.Context()) == "" }, restorePatience,
			10*time.Millisecond,
			"what was told confirmed is not in the ledger again; logs in %s", c.logs)
		t.Logf("%d of %d rows were lost, and restored after %s",
			promotedStock-kept, promotedStock, rounded(time.Since(promoted)))
		return pause(t.Context(), latecomersFor) // nor does anybody get them now
	}))
	require.Equal(t, sold, b.orders(), "somebody bought what was sold")
	requireClean(t, c)
	for id, user := range sold {
		require.Equal(t, "confirmed", b.state(t, id, user))
	}
	total, available, err := s.stock(t.Context(), b.sale)
	require.NoError(t, err)
	require.Equal(t, promotedStock, total)
	require.Zero(t, available)
	b.faultless(t, "a promotion")
}

// state returns the order as its owner reads it.
func (b *buyers) state(t testing.TB, id, user string) string {
	t.Helper()
	return b.shown(t, id, user, nil)
}

// shown returns what state does, with further headers.
func (b *buyers) shown(t testing.TB, id, user string, headers map[string]string) string {
	t.Helper()
	state := ""
	require.Eventually(t, func() bool {
		a, err := b.ask(t.Context(), chanceOf(0).gateway(b.cluster), user, http.MethodGet, "/"+id, headers)
		state = a.State
		return err == nil && a.Status == http.StatusOK
	}, mendPatience, 20*time.Millisecond, "%s of %s", id, user)
	return state
}

// rowsOf counts the orders in a database as another server has it.
func rowsOf(ctx context.Context, server *servers.Server, d testkit.Database) (n int, err error) {
	conn, err := pgx.Connect(ctx, servers.PostgresDSN(server, databaseName(d)))
	if err != nil {
		return 0, fmt.Errorf("count the orders of %s: %w", server.Addr(), err)
	}
	defer conn.Close(ctx)
	return n, conn.QueryRow(ctx, "SELECT COUNT(*) FROM orders").Scan(&n)
}
