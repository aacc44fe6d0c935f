package live

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit/tables"
	"sluice/settings"
	"sluice/store"
)

// bothSwitchesOff returns both switches, off.
func bothSwitchesOff() map[string]any {
	return map[string]any{"gateway.admission": false, "queue.drain": false}
}

// requireStopped fails unless both switches are off and all other overrides are in force.
func (i *instance) requireStopped(f *fleet, why string) {
	f.t.Helper()
	require.False(f.t, i.config().Gateway.Admission, why)
	require.False(f.t, i.config().Queue.Drain, why)
	view := i.Show(f.t.Context())
	require.Empty(f.t, view.LeftOut, why)
	whole, _ := i.Version()
	require.Equal(f.t, view.Version.Version, whole, why)
}

// TestAStopOutlivesWhatIsWrongOnTheDisk checks a broken template and a missing folder. Neither the end of another
// change nor another instance undoes a stop, and the file can still make one.
func TestAStopOutlivesWhatIsWrongOnTheDisk(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx, dir := f.t.Context(), f.t.TempDir()
		words, file := filepath.Join(dir, "words"), filepath.Join(dir, "c.yaml")
		template := filepath.Join(words, "en", "email.txt")
		require.NoError(f.t, os.MkdirAll(filepath.Dir(template), 0o700))
		f.write(file, "notify: {templates: "+words+"}\nqueue: {cap: 100}")
		a, b := f.start(file, nil), f.start("", nil)
		require.NoError(f.t, a.Change(ctx, change(bothSwitchesOff())))
		harms := map[string]func(){
			"a slip in a template": func() { f.write(template, "{{") },
			"the folder is gone":   func() { require.NoError(f.t, os.RemoveAll(words)) },
		}
		for _, what := range slices.Sorted(maps.Keys(harms)) {
			require.NoError(f.t, b.Change(ctx, brief(time.Minute, map[string]any{"queue.batch": 7})))
			require.NoError(f.t, a.follow(ctx))
			harms[what]()
			f.clock.Advance(time.Minute)
			require.NoError(f.t, a.follow(ctx))
			a.requireStopped(f, what+" while another change ends")
			require.NoError(f.t, b.follow(ctx))
			require.NoError(f.t, b.Change(ctx, change(map[string]any{"pool.size": len(what)})))
			require.NoError(f.t, a.follow(ctx))
			a.requireStopped(f, what+" while another instance changes something")
			require.NoError(f.t, a.Change(ctx, change(bothSwitchesOff())))
			a.requireStopped(f, what+" while it is said again")
		}
		require.NoError(f.t, a.Change(ctx, change(nil, "gateway.admission", "queue.drain")))
		f.write(file, "notify: {templates: "+words+"}\nqueue: {drain: false}\ngateway: {admission: false}")
		a.lookTwice(ctx)
		a.requireStopped(f, "by file")
	})
}

// TestTheStopsAreNotKnownBeforeTheyWereRead checks that Ready fails until a readable version was read.
func TestTheStopsAreNotKnownBeforeTheyWereRead(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		begin := func() *instance { return f.unsynced(nil) }
		a := begin()
		require.ErrorIs(f.t, a.Ready(), settings.ErrUnknown)
		require.NoError(f.t, a.follow(ctx), "nothing was ever set")
		require.NoError(f.t, a.Ready())
		require.NoError(f.t, a.Change(ctx, change(bothSwitchesOff())))

		back := f.hideVersions()
		b := begin()
		require.Error(f.t, b.Sync(ctx))
		require.Error(f.t, b.follow(ctx))
		require.ErrorIs(f.t, b.Ready(), settings.ErrUnknown)
		require.NoError(f.t, a.Ready(), "what was read is known for good")
		a.requireStopped(f, "the database is away")
		back()
		require.NoError(f.t, b.follow(ctx))
		require.NoError(f.t, b.Ready())
		b.requireStopped(f, "the database is back")

		require.NoError(f.t, f.db.Write.Exec("UPDATE config_versions SET overlay = '<not ours>'").Error)
		c := begin()
		require.ErrorIs(f.t, c.Sync(ctx), settings.ErrUnreadable)
		require.ErrorIs(f.t, c.Ready(), settings.ErrUnknown)
	})
}

// TestAStopOutlivesADatabaseThatLostIt checks that an instance restores a stop that the database has lost.
func TestAStopOutlivesADatabaseThatLostIt(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		a, b := f.start("", nil), f.start("", nil)
		for _, lost := range []int64{1, 2} {
			set := bothSwitchesOff()
			set["pool.size"] = int(lost)
			require.NoError(f.t, a.Change(ctx, change(set)))
			require.NoError(f.t, b.follow(ctx))
			require.NoError(f.t, f.db.Write.Exec("DELETE FROM config_versions WHERE version IN (0, ?)", lost).Error)
			for _, i := range []*instance{a, b} {
				require.NoError(f.t, i.follow(ctx))
				i.requireStopped(f, "the database has lost it")
			}
			f.start("", nil).requireStopped(f, "a new instance knows it from the others")
			var logged int64
			require.NoError(f.t, f.db.Read.Table("admin_log").Where("action = 'config.restore'").Count(&logged).Error)
			require.Equal(f.t, lost, logged, "by one of the two")
		}
		require.NoError(f.t, f.db.Write.Exec("DELETE FROM config_versions WHERE version = 2").Error)
		require.NoError(f.t, b.Change(ctx, change(map[string]any{"queue.batch": 7})))
		b.requireStopped(f, "before the next change is made")
		require.NoError(f.t, a.follow(ctx))
		a.requireStopped(f, "another change was made first")
	})
}

// TestNothingIsTooLongForAStop checks that long hot keys in the file prevent no change, and long overrides prevent no
// stop.
func TestNothingIsTooLongForAStop(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		file := filepath.Join(f.t.TempDir(), "c.yaml")
		held := make([]string, 900)
		for n := range held {
			held[n] = fmt.Sprintf("%064d", n)
		}
		f.write(file, "queue: {held: ["+`"`+strings.Join(held, `", "`)+`"`+"]}")
		a := f.start(file, nil)
		require.NoError(f.t, a.Change(ctx, brief(time.Minute, map[string]any{"pool.size": 2})))
		require.NoError(f.t, a.Change(ctx, change(bothSwitchesOff())))
		f.clock.Advance(time.Minute)
		require.NoError(f.t, a.follow(ctx))
		a.requireStopped(f, "with a long file")
		require.Len(f.t, a.config().Queue.Held, 900)
		require.NotContains(f.t, a.log.String(), "level=WARN")
		list, err := a.Versions(ctx, 0, 1)
		require.NoError(f.t, err)
		require.NotContains(f.t, list[0].Values, "queue.held", "the longest is not kept")
		require.Equal(f.t, false, list[0].Values["gateway.admission"])

		b := f.start("", nil)
		require.NoError(f.t, b.Change(ctx, change(nil, "gateway.admission", "queue.drain")))
		next := 0
		hold := func(n int) error {
			set := map[string]any{}
			for range n {
				set[fmt.Sprintf("queue.held.%064d", next)] = true
				next++
			}
			return b.Change(ctx, change(set))
		}
		for _, many := range []int{50, 1} {
			for err = nil; err == nil && next < 1000; {
				err = hold(many)
			}
		}
		require.ErrorContains(f.t, err, "longer than")
		for range 2 {
			require.NoError(f.t, b.Change(ctx, brief(time.Minute, bothSwitchesOff())))
		}
		require.NoError(f.t, b.Change(ctx, change(bothSwitchesOff())))
		b.requireStopped(f, "with no room for anything else")
		require.NoError(f.t, b.Change(ctx, change(nil, "queue.held")))
	})
}

// TestAReloadSaysWhatOperatorsHaveSet checks that a stop in the file does not outrank an override, and that the answer
// says so.
func TestAReloadSaysWhatOperatorsHaveSet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	file := filepath.Join(t.TempDir(), "c.yaml")
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	require.NoError(t, a.Change(t.Context(), change(map[string]any{"gateway.admission": true})))
	f.write(file, "queue: {cap: 50}\ngateway: {admission: false}")
	result, err := a.Reload(t.Context(), settings.Author{Actor: "ann"})
	require.NoError(t, err)
	require.Equal(t, settings.ReloadResult{Changed: []string{"queue.cap"},
		Overridden: []string{"gateway.admission"}}, result)
}
