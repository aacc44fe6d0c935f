package adminlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/adminlog"
	"sluice/internal/invalid"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/store"
)

func TestMain(m *testing.M) { testkit.VerifyMain(m, tables.Clear) }

var (
	errSure   = errors.New("refused: nothing was changed")
	errUnsure = errors.New("the reply was lost")
)

// world is the admin log of one database.
type world struct {
	t     *testing.T
	ctx   context.Context
	db    *store.DB
	clock *testkit.Clock
	log   *adminlog.Log
}

func newWorld(t *testing.T, d testkit.Database) *world {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Driver, cfg.DSN = d.Driver, d.DSN
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), cfg, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	clock := testkit.NewClock(time.Unix(1_800_000_000, 0))
	return &world{t: t, ctx: t.Context(), db: db, clock: clock, log: adminlog.New(db, quiet, clock.Now, 7)}
}

// onEveryDatabase runs a test on every database.
func onEveryDatabase(t *testing.T, test func(w *world)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, d))
		})
	}
}

func (w *world) entries(only adminlog.Filter) []adminlog.Entry {
	w.t.Helper()
	list, err := w.log.List(w.ctx, only, 0, 100)
	require.NoError(w.t, err)
	return list
}

// change makes one change that ends with err, and returns the log's entries during the change.
func (w *world) change(err error) []adminlog.Entry {
	w.t.Helper()
	var meanwhile []adminlog.Entry
	act := adminlog.Act{Actor: "olga", Action: "dead.drop", Sale: "phone", Target: "order-1", Reason: "a bot's"}
	sure := func(err error) bool { return errors.Is(err, errSure) }
	got := w.log.RecordChange(w.ctx, act, map[string]int{"n": 1}, sure, func(context.Context) (any, error) {
		meanwhile = w.entries(adminlog.Filter{})
		return map[string]int{"n": 2}, err
	})
	require.ErrorIs(w.t, got, err)
	return meanwhile
}

// TestAChangeIsLoggedBeforeItIsMade checks that RecordChange writes its entry before it calls do.
func TestAChangeIsLoggedBeforeItIsMade(t *testing.T) {
	onEveryDatabase(t, func(w *world) {
		for _, end := range []error{nil, errUnsure} {
			before := w.change(end)
			require.Equal(w.t, `{"outcome":"unknown"}`, before[0].AfterValue, "while it is made")
			require.Equal(w.t, `{"n":1}`, before[0].BeforeValue)
			require.EqualValues(w.t, 7, before[0].Instance)
			after := w.entries(adminlog.Filter{})[0]
			if want := before[0]; end == nil {
				want.AfterValue = `{"n":2}`
				require.Equal(w.t, want, after)
			} else {
				require.Equal(w.t, want, after, "nobody knows what came of it")
			}
		}
		require.Len(w.t, w.change(errSure), 3)
		require.Len(w.t, w.entries(adminlog.Filter{}), 2, "what was refused has not happened")
	})
}

func TestNothingIsDoneThatCannotBeLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, tables.New(t, store.SQLite))
	do := func(context.Context) (any, error) {
		t.Error("it was done")
		return nil, nil
	}
	act := adminlog.Act{Actor: "olga", Action: "dead.drop", Reason: strings.Repeat("a", 201)}
	require.ErrorAs(t, w.log.RecordChange(w.ctx, act, nil, func(error) bool { return false }, do), new(invalid.Error))

	act.Reason = "short"
	require.NoError(t, w.db.Write.Exec("DROP TABLE admin_log").Error)
	require.ErrorContains(t, w.log.RecordChange(w.ctx, act, nil, func(error) bool { return false }, do), "admin log")
}

func TestTheAdminLogIsFilteredAndPaged(t *testing.T) {
	onEveryDatabase(t, func(w *world) {
		began := w.clock.Now()
		for i, act := range []adminlog.Act{
			{Actor: "ann", Action: "sale.open", Sale: "phone", Target: "phone"},
			{Actor: "bob", Action: "sale.close", Sale: "phone", Target: "phone"},
			{Actor: "ann", Action: "sale.open", Sale: "tv", Target: "tv"},
			{Actor: "ann", Action: "sales.open", Target: "x"},
			{Actor: "ann", Action: "s_le.open", Target: "y"},
			{Actor: "ann", Action: "dead.drop", Sale: "phone", Target: "order-1"},
		} {
			w.clock.Advance(time.Second)
			require.NoError(w.t, act.Write(w.db.Write, w.clock.Now(), nil, i))
		}
		count := func(only adminlog.Filter) string {
			var which []string
			for _, e := range w.entries(only) {
				which = append(which, e.AfterValue)
			}
			return strings.Join(which, "")
		}
		require.Equal(w.t, "543210", count(adminlog.Filter{}), "newest first")
		require.Equal(w.t, "510", count(adminlog.Filter{Sale: "phone"}))
		require.Equal(w.t, "1", count(adminlog.Filter{Actor: "bob"}))
		require.Equal(w.t, "5", count(adminlog.Filter{Target: "order-1"}))
		require.Equal(w.t, "20", count(adminlog.Filter{Action: "sale.open"}))
		require.Equal(w.t, "210", count(adminlog.Filter{Action: "sale"}),
			"the part before the dot, and no other that begins so")
		require.Equal(w.t, "4", count(adminlog.Filter{Action: "s_le"}), "no pattern")
		require.Empty(w.t, count(adminlog.Filter{Action: "%"}))
		require.Equal(w.t, "54", count(adminlog.Filter{Since: began.Add(5 * time.Second)}))
		require.Equal(w.t, "0", count(adminlog.Filter{Sale: "phone", Actor: "ann", Action: "sale"}),
			"all that is asked for")

		var paged []string
		for before := int64(0); len(paged) <= 6; {
			page, err := w.log.List(w.ctx, adminlog.Filter{}, before, 4)
			require.NoError(w.t, err)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				paged, before = append(paged, e.AfterValue), e.ID
			}
		}
		require.Equal(w.t, "[5 4 3 2 1 0]", fmt.Sprint(paged))
	})
}
