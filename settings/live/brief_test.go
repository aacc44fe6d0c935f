package live

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit/tables"
	"sluice/settings"
	"sluice/store"
)

// moment is an event at a minute of the test, with the cap that is expected after it.
type moment struct {
	minute int
	do     func(t *testing.T, a *instance)
	counts int // queue.cap
}

func set(c settings.Change) func(*testing.T, *instance) {
	return func(t *testing.T, a *instance) { require.NoError(t, a.Change(t.Context(), c)) }
}

func revert(to int64) func(*testing.T, *instance) {
	return func(t *testing.T, a *instance) {
		require.NoError(t, a.Revert(t.Context(), to, "", settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}))
	}
}

// TestAChangeForATimeEndsWhateverComesBetween checks that a temporary change ends by itself and the earlier value
// returns.
func TestAChangeForATimeEndsWhateverComesBetween(t *testing.T) {
	t.Parallel()
	capOf := func(n int) map[string]any { return map[string]any{"queue.cap": n} }
	normal := 10_000
	for name, moments := range map[string][]moment{
		"a shorter one during it": {{0, set(brief(10*time.Minute, capOf(500))), 500},
			{2, set(brief(3*time.Minute, capOf(50))), 50}, {5, nil, 500}, {10, nil, normal}},
		"a longer one during it": {{0, set(brief(10*time.Minute, capOf(500))), 500},
			{2, set(brief(20*time.Minute, capOf(50))), 50}, {10, nil, 50}, {22, nil, normal}},
		"one for good during it": {{0, set(brief(10*time.Minute, capOf(500))), 500}, {2, set(change(capOf(50))), 50},
			{10, nil, 50}},
		"unset during it": {{0, set(brief(10*time.Minute, capOf(500))), 500},
			{2, set(change(nil, "queue.cap")), normal}, {10, nil, normal}},
		"unset for a time": {{0, set(change(capOf(500))), 500},
			{1, set(brief(5*time.Minute, nil, "queue.cap")), normal}, {6, nil, 500}},
		"another key during it": {{0, set(brief(10*time.Minute, capOf(500))), 500},
			{2, set(change(map[string]any{"pool.size": 2})), 500}, {10, nil, normal}},
		"reverted": {{0, set(brief(10*time.Minute, capOf(500))), 500}, {2, revert(0), normal},
			{10, nil, normal}},
		"reverted to it": {{0, set(brief(10*time.Minute, capOf(500))), 500}, {2, set(change(capOf(50))), 50},
			{4, revert(1), 500}, {10, nil, normal}},
		"reverted to it when over": {{0, set(brief(10*time.Minute, capOf(500))), 500}, {2, set(change(capOf(50))), 50},
			{12, revert(1), normal}},
		"reverted to it, ended": {{0, set(brief(10*time.Minute, capOf(500))), 500},
			{11, set(change(map[string]any{"pool.size": 2})), normal}, {12, revert(1), normal}},
		"reverted to it when ended": {{0, set(brief(10*time.Minute, capOf(500))), 500}, {11, nil, normal},
			{12, set(change(capOf(70))), 70}, {13, revert(0), normal}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, tables.New(t, store.SQLite))
			a, b := f.start("", nil), f.start("", nil)
			began := f.clock.Now()
			for _, m := range moments {
				f.clock.Advance(began.Add(time.Duration(m.minute) * time.Minute).Sub(f.clock.Now()))
				if m.do != nil {
					m.do(t, a)
				}
				for who, i := range map[string]*instance{"a": a, "b": b, "one that starts": f.start("", nil)} {
					require.NoError(t, i.follow(t.Context()))
					require.Equal(t, m.counts, i.config().Queue.Cap, "%s after %d minutes", who, m.minute)
				}
			}
		})
	}
}

// TestEachSalesChangeEndsByItself checks that overrides of different sales end independently.
func TestEachSalesChangeEndsByItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a := f.start("", nil)
	limit := func(sale string, rps float64) map[string]any {
		return map[string]any{"limits.sales." + sale: map[string]any{"per_user_rps": rps}, "queue.held." + sale: "true"}
	}
	sales := func() (limited, held []string) {
		b := f.start("", nil)
		for _, i := range []*instance{a, b} {
			require.NoError(t, i.follow(ctx))
		}
		require.Equal(t, a.config().Limits.Sales, b.config().Limits.Sales)
		for sale := range a.config().Limits.Sales {
			limited = append(limited, sale)
		}
		return limited, a.config().Queue.Held
	}
	require.NoError(t, a.Change(ctx, brief(10*time.Minute, limit("phone", 1))))
	require.NoError(t, a.Change(ctx, change(limit("radio", 2))))
	require.NoError(t, a.Change(ctx, brief(5*time.Minute, limit("tv", 3))))
	view := a.Show(ctx)
	for _, k := range view.Keys {
		if k.Key == "limits.sales" || k.Key == "queue.held" {
			require.Equal(t, map[string]time.Time{"phone": f.clock.Now().Add(10 * time.Minute).
				UTC(), "tv": f.clock.Now().Add(5 * time.Minute).UTC()}, k.UntilSale)
			require.Zero(t, k.Until)
		}
	}
	for _, step := range []struct {
		after time.Duration
		left  []string
	}{{0, []string{"phone", "radio", "tv"}}, {5 * time.Minute, []string{"phone", "radio"}},
		{5 * time.Minute, []string{"radio"}}} {
		f.clock.Advance(step.after)
		limited, held := sales()
		require.ElementsMatch(t, step.left, limited)
		require.ElementsMatch(t, step.left, held)
	}
	require.NoError(t, a.Change(ctx, brief(time.Minute, map[string]any{"limits.sales.radio": nil,
		"queue.held.radio": false})))
	limited, held := sales()
	require.Empty(t, limited)
	require.Empty(t, held)
	f.clock.Advance(time.Minute)
	limited, held = sales()
	require.Equal(t, []string{"radio"}, limited)
	require.Equal(t, []string{"radio"}, held)
	require.NoError(t, a.Change(ctx, change(nil, "limits.sales", "queue.held")))
	limited, held = sales()
	require.Empty(t, limited)
	require.Empty(t, held)
}

// TestLaterStepsAreChecked checks that the values after a temporary change must be valid, too.
func TestLaterStepsAreChecked(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a := f.start("", nil)
	var bad invalid.Error
	require.NoError(t, a.Change(ctx, change(map[string]any{"queue.cap": 50})))
	require.NoError(t, a.Change(ctx, brief(10*time.Minute, map[string]any{"queue.cap": 500})))
	require.ErrorAs(t, a.Change(ctx, change(map[string]any{"queue.max_wait": "10s"})), &bad)
	require.Contains(t, bad[0].Detail, "from "+f.clock.Now().Add(10*time.Minute).UTC().Format(time.RFC3339)+" on")
	require.NoError(t, a.Change(ctx, brief(9*time.Minute, map[string]any{"queue.max_wait": "10s"})), "it ends before")
	f.clock.Advance(10 * time.Minute)
	require.NoError(t, a.follow(ctx))
	require.Equal(t, 50, a.config().Queue.Cap)
}

// TestAChangeEndsWhileTheDatabaseIsAway checks that a temporary change ends without the database.
func TestAChangeEndsWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	a := f.start("", nil)
	require.NoError(t, a.Change(t.Context(), brief(time.Minute, map[string]any{"gateway.admission": false})))
	f.clock.Advance(time.Minute)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, a.follow(gone))
	require.True(t, a.config().Gateway.Admission)
	require.Zero(t, a.outcome("invalid"), "a store that is away is no bad configuration")
	require.NoError(t, a.follow(t.Context()))
	list, err := a.Versions(t.Context(), 0, 1)
	require.NoError(t, err)
	require.Equal(t, "expiry", list[0].Source)
}

// TestRevertFindsWhatMakesADifference checks that a revert undoes the last change under its prefix and revives nothing
// that has expired.
func TestRevertFindsWhatMakesADifference(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a := f.start("", nil)
	by := settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}
	require.NoError(t, a.Change(ctx, change(map[string]any{"limits.global_rps": 10})))
	require.NoError(t, a.Change(ctx, change(map[string]any{"limits.global_rps": 20})))
	require.NoError(t, a.Change(ctx, brief(time.Minute, map[string]any{"limits.global_rps": 5})))
	f.clock.Advance(time.Minute)
	require.NoError(t, a.follow(ctx))
	require.NoError(t, a.Change(ctx, change(map[string]any{"pool.size": 2})))
	require.NoError(t, a.Revert(ctx, 0, "limits.", by))
	require.InDelta(t, 10, a.config().Limits.GlobalRPS, 0,
		"neither the change of another key nor the one that has ended")
	require.Equal(t, 2, a.config().Pool.Size)
	require.NoError(t, a.Revert(ctx, 3, "limits.", by))
	require.InDelta(t, 20, a.config().Limits.GlobalRPS, 0, "without what has ended")
	f.clock.Advance(time.Hour)
	require.NoError(t, a.follow(ctx))
	require.InDelta(t, 20, a.config().Limits.GlobalRPS, 0)

	before, _ := a.Version()
	require.ErrorIs(t, a.Revert(ctx, 0, "notify.", by), settings.ErrNoVersion, "nothing of it was ever changed")
	after, _ := a.Version()
	require.Equal(t, before, after)
}

// TestRevertToTheStart checks that the first change can be reverted, even one by file.
func TestRevertToTheStart(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		file := f.t.TempDir() + "/c.yaml"
		f.write(file, "limits: {global_rps: 100}")
		a, b := f.start(file, map[string]any{"pool.size": 3}), f.start(file, nil)
		f.write(file, "limits: {global_rps: 200}")
		a.lookTwice(ctx)
		b.lookTwice(ctx)
		require.NoError(f.t, b.Revert(ctx, 0, "", settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}))
		require.InDelta(f.t, 100, b.config().Limits.GlobalRPS, 0)
		require.NoError(f.t, a.follow(ctx))
		require.InDelta(f.t, 100, a.config().Limits.GlobalRPS, 0)
		list, err := a.Versions(ctx, 0, 10)
		require.NoError(f.t, err)
		require.Len(f.t, list, 2, "what was before the first is no version")
	})
}

// TestRevertPinsNothingThatHasEnded checks that an expired value is not mistaken for the file's.
func TestRevertPinsNothingThatHasEnded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	require.NoError(t, a.Change(ctx, brief(time.Minute, map[string]any{"limits.global_rps": 5})))
	f.clock.Advance(time.Minute)
	require.NoError(t, a.follow(ctx))
	f.write(file, "queue: {cap: 200}")
	a.lookTwice(ctx)
	require.NoError(t, a.Revert(ctx, 1, "", settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}))
	require.Equal(t, 100, a.config().Queue.Cap)
	require.Zero(t, a.config().Limits.GlobalRPS)
}
