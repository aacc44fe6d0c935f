package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/inventory"
)

var (
	errSure   = errors.New("refused: nothing was changed")
	errUnsure = errors.New("the reply was lost")
)

func (w *world) adminLog() *inventory.AdminLog {
	return inventory.NewAdminLog(w.db, slog.New(slog.DiscardHandler), w.clock.Now)
}

func (w *world) entries(l *inventory.AdminLog, only inventory.LogFilter) []inventory.LogEntry {
	w.t.Helper()
	list, err := l.List(w.ctx, only, 0, 100)
	require.NoError(w.t, err)
	return list
}

// noted makes one change that ends with err, and returns what the log held while it was made.
func (w *world) noted(l *inventory.AdminLog, err error) []inventory.LogEntry {
	w.t.Helper()
	var meanwhile []inventory.LogEntry
	act := inventory.Act{Actor: "olga", Action: "dead.drop", Sale: "phone", Target: "order-1", Reason: "a bot's"}
	sure := func(err error) bool { return errors.Is(err, errSure) }
	got := l.Noted(w.ctx, act, map[string]int{"n": 1}, sure, func(context.Context) (any, error) {
		meanwhile = w.entries(l, inventory.LogFilter{})
		return map[string]int{"n": 2}, err
	})
	require.ErrorIs(w.t, got, err)
	return meanwhile
}

// A change outside of the database is in the log before it is made, whatever comes of it.
func TestAChangeIsLoggedBeforeItIsMade(t *testing.T) {
	eachDatabase(t, func(w *world) {
		l := w.adminLog()
		for _, end := range []error{nil, errUnsure} {
			before := w.noted(l, end)
			require.Equal(w.t, `{"outcome":"unknown"}`, before[0].AfterValue, "while it is made")
			require.Equal(w.t, `{"n":1}`, before[0].BeforeValue)
			after := w.entries(l, inventory.LogFilter{})[0]
			if want := before[0]; end == nil {
				want.AfterValue = `{"n":2}`
				require.Equal(w.t, want, after)
			} else {
				require.Equal(w.t, want, after, "nobody knows what came of it")
			}
		}
		require.Len(w.t, w.noted(l, errSure), 3)
		require.Len(w.t, w.entries(l, inventory.LogFilter{}), 2, "what was refused has not happened")
	})
}

func TestNothingIsDoneThatCannotBeLogged(t *testing.T) {
	w := onSQLite(t)
	do := func(context.Context) (any, error) {
		t.Error("it was done")
		return nil, nil
	}
	act := inventory.Act{Actor: "olga", Action: "dead.drop", Reason: strings.Repeat("a", 201)}
	require.ErrorAs(t, w.adminLog().Noted(w.ctx, act, nil, func(error) bool { return false }, do), new(inventory.InvalidError))

	act.Reason = "short"
	require.NoError(t, w.db.Write.Exec("DROP TABLE admin_log").Error)
	require.ErrorContains(t, w.adminLog().Noted(w.ctx, act, nil, func(error) bool { return false }, do), "admin log")
}

func TestTheAdminLogIsFilteredAndPaged(t *testing.T) {
	eachDatabase(t, func(w *world) {
		l := w.adminLog()
		began := w.clock.Now()
		for i, act := range []inventory.Act{
			{Actor: "ann", Action: "sale.open", Sale: "phone", Target: "phone"},
			{Actor: "bob", Action: "sale.close", Sale: "phone", Target: "phone"},
			{Actor: "ann", Action: "sale.open", Sale: "tv", Target: "tv"},
			{Actor: "ann", Action: "sales.open", Target: "x"},
			{Actor: "ann", Action: "s_le.open", Target: "y"},
			{Actor: "ann", Action: "dead.drop", Sale: "phone", Target: "order-1"},
		} {
			w.clock.Advance(time.Second)
			require.NoError(w.t, act.Log(w.db.Write, w.clock.Now(), nil, i))
		}
		count := func(only inventory.LogFilter) string {
			var which []string
			for _, e := range w.entries(l, only) {
				which = append(which, e.AfterValue)
			}
			return strings.Join(which, "")
		}
		require.Equal(w.t, "543210", count(inventory.LogFilter{}), "newest first")
		require.Equal(w.t, "510", count(inventory.LogFilter{Sale: "phone"}))
		require.Equal(w.t, "1", count(inventory.LogFilter{Actor: "bob"}))
		require.Equal(w.t, "5", count(inventory.LogFilter{Target: "order-1"}))
		require.Equal(w.t, "20", count(inventory.LogFilter{Action: "sale.open"}))
		require.Equal(w.t, "210", count(inventory.LogFilter{Action: "sale"}), "the part before the dot, and no other that begins so")
		require.Equal(w.t, "4", count(inventory.LogFilter{Action: "s_le"}), "no pattern")
		require.Empty(w.t, count(inventory.LogFilter{Action: "%"}))
		require.Equal(w.t, "54", count(inventory.LogFilter{Since: began.Add(5 * time.Second)}))
		require.Equal(w.t, "0", count(inventory.LogFilter{Sale: "phone", Actor: "ann", Action: "sale"}), "all that is asked for")

		var paged []string
		for before := int64(0); len(paged) <= 6; {
			page, err := l.List(w.ctx, inventory.LogFilter{}, before, 4)
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
