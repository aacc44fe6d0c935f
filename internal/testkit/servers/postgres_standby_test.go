package servers

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestAStandbyFollowsAndIsPromoted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary, err := Postgres(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, primary.Close()) })
	standby, err := PostgresStandby(ctx, primary.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Close()) })

	run := func(s *Server, statement string) error {
		conn, err := pgx.Connect(ctx, PostgresDSN(s, "postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, statement)
		return err
	}
	require.NoError(t, run(primary, "CREATE TABLE thing (id INT)"))
	require.Eventually(t, func() bool { return run(standby, "SELECT id FROM thing") == nil },
		20*time.Second, 10*time.Millisecond)
	require.Error(t, run(standby, "INSERT INTO thing VALUES (1)"), "it takes no writes yet")
	primary.Kill()
	require.NoError(t, PromotePostgres(ctx, standby))
	require.NoError(t, run(standby, "INSERT INTO thing VALUES (1)"))

	require.NoError(t, standby.Stop())
	require.NoError(t, standby.StartWith(ctx, "-c", "default_transaction_read_only=on"))
	require.Error(t, run(standby, "INSERT INTO thing VALUES (1)"), "as it was started")
	standby.Kill()
	require.NoError(t, standby.Start(ctx))
	require.NoError(t, run(standby, "INSERT INTO thing VALUES (2)"), "and not any more")
}
