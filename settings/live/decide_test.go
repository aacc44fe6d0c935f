package live

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit/tables"
	"sluice/settings"
	"sluice/store"
)

// TestChangesWithoutAConditionAreAllMade checks that simultaneous changes succeed, unless they name an old version.
func TestChangesWithoutAConditionAreAllMade(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		const each = 8
		ctx := f.t.Context()
		a, b := f.start("", nil), f.start("", nil)
		var together sync.WaitGroup
		errs := make([]error, 2*each)
		for who, i := range []*instance{a, b} {
			together.Go(func() {
				for n := range each {
					errs[who*each+n] = i.Change(ctx, change(map[string]any{fmt.Sprintf("queue.held.%d-%d",
						who, n): true}))
				}
			})
		}
		together.Wait()
		for _, err := range errs {
			require.NoError(f.t, err)
		}
		require.NoError(f.t, a.follow(ctx))
		require.Len(f.t, a.config().Queue.Held, 2*each)
		version, _ := a.Version()
		require.EqualValues(f.t, 2*each, version)
	})
}

// TestWhatIsSetIsBoundedOnEveryDatabase checks that overrides too long for the database or its log are refused.
func TestWhatIsSetIsBoundedOnEveryDatabase(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		a := f.start("", nil)
		var err error
		for n := 0; err == nil && n < 1000; n += 50 {
			set := map[string]any{}
			for m := range 50 {
				set[fmt.Sprintf("queue.held.%064d", n+m)] = true
			}
			err = a.Change(f.t.Context(), change(set))
		}
		var bad invalid.Error
		require.ErrorAs(f.t, err, &bad)
		require.Contains(f.t, bad[0].Detail, "longer than")
		require.NotEmpty(f.t, a.config().Queue.Held)
		require.NoError(f.t, a.Change(f.t.Context(), change(nil, "queue.held")))
		require.Empty(f.t, a.config().Queue.Held)
	})
}

// TestUntilOfASaleIsThatOfTheWholeKeyToo checks that a sale's end includes an end set for the whole key.
func TestUntilOfASaleIsThatOfTheWholeKeyToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a := f.start("", nil)
	after := func(d time.Duration) time.Time { return f.clock.Now().Add(d).UTC() }
	require.NoError(t, a.Change(ctx, brief(10*time.Minute, map[string]any{"queue.held": []any{"phone", "tv"}})))
	require.Equal(t, after(10*time.Minute), a.Until("queue.held", "phone"))
	require.NoError(t, a.Change(ctx, brief(20*time.Minute, map[string]any{"queue.held.phone": true})))
	require.NoError(t, a.Change(ctx, change(map[string]any{"queue.held.radio": true})))
	require.Equal(t, after(20*time.Minute), a.Until("queue.held", "phone"))
	require.Equal(t, after(10*time.Minute), a.Until("queue.held", "tv"))
	require.Zero(t, a.Until("queue.held", "radio"), "for good")
	require.Zero(t, a.Until("queue.drain", ""))
}

// TestARevertIsReverted checks that a revert of a revert restores the values, also those of a file.
func TestARevertIsReverted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	by := settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}
	require.NoError(t, a.Change(ctx, change(map[string]any{"pool.size": 2})))
	f.write(file, "queue: {cap: 200}")
	a.lookTwice(ctx)
	for _, want := range []int{100, 200, 100} {
		require.NoError(t, a.Revert(ctx, 0, "", by))
		require.Equal(t, want, a.config().Queue.Cap)
		require.Equal(t, 2, a.config().Pool.Size)
		require.Equal(t, want, f.start(file, nil).config().Queue.Cap, "also after a restart")
	}
	var bad invalid.Error
	require.ErrorAs(t, a.Change(ctx, change(map[string]any{"queue.cap": 5}, "queue.cap")), &bad)
	require.Equal(t, "queue.cap", bad[0].Field, "one of the two would be lost")
	fresh := newFleet(t, tables.New(t, store.SQLite)).start("", nil)
	err := fresh.Revert(ctx, 0, "", by)
	require.ErrorIs(t, err, settings.ErrNoVersion)
	require.NotContains(t, err.Error(), "-1")
}
