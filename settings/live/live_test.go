package live

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/invalid"
	"sluice/internal/testkit/tables"
	"sluice/queue"
	"sluice/settings"
	"sluice/store"
)

func TestAChangeReachesEveryInstance(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		a, b := f.start("", nil), f.start("", map[string]any{"pool.size": 3})
		require.NoError(f.t, a.Change(ctx, change(map[string]any{"pool.size": "16", "queue.max_wait": "30s",
			"limits.sales": map[string]any{"phone": map[string]any{"global_rps": 5.0}}})))
		require.Equal(f.t, 16, a.config().Pool.Size)
		require.Equal(f.t, 3, b.config().Pool.Size)
		require.NoError(f.t, b.follow(ctx))
		require.Equal(f.t, 16, b.config().Pool.Size, "what operators set counts above a flag")
		require.Equal(f.t, 30*time.Second, b.config().Queue.MaxWait)
		require.InDelta(f.t, 5, *b.config().Limits.Sales["phone"].TotalRPS, 0)
		c := f.start("", nil)
		require.Equal(f.t, 16, c.config().Pool.Size, "also one that starts later")
		for _, i := range []*instance{a, b, c} {
			version, _ := i.Version()
			require.EqualValues(f.t, 1, version)
		}
		view := b.Show(ctx)
		require.Equal(f.t, "ann", view.Version.Actor)
		require.Equal(f.t, "admin", view.Version.Source)
		require.Equal(f.t, f.clock.Now().UnixMilli(), view.Version.At.UnixMilli())

		require.NoError(f.t, b.Change(ctx, change(nil, "pool.size")))
		require.NoError(f.t, a.follow(ctx))
		require.Equal(f.t, 8, a.config().Pool.Size)
		require.Equal(f.t, 3, b.config().Pool.Size)
		var logged int64
		require.NoError(f.t, f.db.Read.Table("admin_log").
			Where("action = 'config.admin' AND actor = 'ann' AND reason = 'rush'").Count(&logged).Error)
		require.EqualValues(f.t, 2, logged)
	})
}

func TestAnInvalidChangeKeepsEverything(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	a := f.start("", nil)
	for name, c := range map[string]struct {
		set   map[string]any
		field string
	}{
		"out of bounds":         {map[string]any{"pool.size": 0, "queue.batch": 10}, "pool.size"},
		"not a number":          {map[string]any{"pool.size": "many"}, "pool.size"},
		"no such key":           {map[string]any{"pool.sise": 3}, "pool.sise"},
		"cold":                  {map[string]any{"http.addr": ":1"}, "http.addr"},
		"wrong only as a whole": {map[string]any{"queue.max_wait": "10s", "queue.cap": 50}, "queue.min_cap"},
		"nothing":               {nil, "set"},
	} {
		var bad invalid.Error
		require.ErrorAs(t, a.Change(t.Context(), change(c.set)), &bad, name)
		require.Equal(t, c.field, bad[0].Field, name)
	}
	require.Len(t, a.applied, 1)
	n, err := a.versions.LatestNumber(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.InDelta(t, 6, a.outcome("invalid"), 0, "every refusal is counted")
	require.Equal(t, 6, strings.Count(a.log.String(), "a change of the configuration was refused"))
}

func TestAChangeDecidedOnAnOldVersion(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		a, b := f.start("", nil), f.start("", nil)
		c := change(map[string]any{"pool.size": 2})
		c.By.IfVersion = 0
		require.NoError(f.t, a.Change(f.t.Context(), c))
		require.ErrorIs(f.t, b.Change(f.t.Context(), c), settings.ErrVersion)
		c.By.IfVersion = 1
		require.NoError(f.t, b.Change(f.t.Context(), c))

		// Of many simultaneous changes exactly one succeeds on each version.
		done := make(chan error)
		c.By.IfVersion = 2
		for _, i := range []*instance{a, b, a, b} {
			go func() { done <- i.Change(context.Background(), c) }()
		}
		made := 0
		for range 4 {
			if err := <-done; err == nil {
				made++
			} else {
				require.ErrorIs(f.t, err, settings.ErrVersion)
			}
		}
		require.Equal(f.t, 1, made)
	})
}

func TestAChangeForATime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a, b := f.start("", nil), f.start("", nil)
	require.NoError(t, a.Change(ctx, change(map[string]any{"queue.cap": 500})))
	require.NoError(t, a.Change(ctx, brief(10*time.Minute, map[string]any{"queue.cap": 50, "queue.batch": 7})))
	require.NoError(t, a.Change(ctx, change(map[string]any{"pool.size": 2})), "others may be changed meanwhile")
	require.NoError(t, b.follow(ctx))
	require.Equal(t, 50, b.config().Queue.Cap)
	f.clock.Advance(10*time.Minute - time.Millisecond)
	require.NoError(t, b.follow(ctx))
	require.Equal(t, 50, b.config().Queue.Cap)
	f.clock.Advance(time.Millisecond)
	require.NoError(t, b.follow(ctx))
	require.NoError(t, a.follow(ctx))
	for _, i := range []*instance{a, b, f.start("", nil)} {
		require.Equal(t, 500, i.config().Queue.Cap, "what counted before")
		require.Equal(t, queue.DefaultConfig().Batch, i.config().Queue.Batch)
		require.Equal(t, 2, i.config().Pool.Size)
	}
	list, err := a.Versions(ctx, 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 4, "the end is one version, not one for each instance")
	require.Equal(t, "expiry", list[0].Source)
}

func TestRevert(t *testing.T) {
	onEveryDatabase(t, func(f *fleet) {
		ctx := f.t.Context()
		file := filepath.Join(f.t.TempDir(), "c.yaml")
		f.write(file, "queue: {cap: 100}")
		a := f.start(file, nil)
		by := settings.Author{Actor: "bob", IfVersion: settings.AnyVersion}
		require.ErrorIs(f.t, a.Revert(ctx, 0, "", by), settings.ErrNoVersion, "nothing to go back to")
		require.NoError(f.t, a.Change(ctx, change(map[string]any{"limits.global_rps": 10, "pool.size": 2})))
		require.NoError(f.t, a.Change(ctx, change(map[string]any{"limits.global_rps": 20, "pool.size": 4})))
		require.NoError(f.t, a.Revert(ctx, 0, "limits.", by))
		require.InDelta(f.t, 10, a.config().Limits.GlobalRPS, 0)
		require.Equal(f.t, 4, a.config().Pool.Size, "only the limits")
		f.write(file, "queue: {cap: 999}")
		a.lookTwice(ctx)
		require.Equal(f.t, 999, a.config().Queue.Cap)
		require.NoError(f.t, a.Revert(ctx, 3, "", by))
		require.Equal(f.t, 100, a.config().Queue.Cap, "a change by file can be reverted, too")
		require.Equal(f.t, 4, a.config().Pool.Size)
		require.NoError(f.t, a.Revert(ctx, 1, "", by))
		require.Equal(f.t, 2, a.config().Pool.Size)
		require.ErrorIs(f.t, a.Revert(ctx, 77, "", by), settings.ErrNoVersion)
	})
}

// TestTheFileIsFollowed checks that every kind of change of a file is applied. It makes one version for all instances
// with that file.
func TestTheFileIsFollowed(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(f *fleet, path, text string){
		"written in place": func(f *fleet, path, text string) { f.write(path, text) },
		"renamed over": func(f *fleet, path, text string) {
			f.write(path+".new", text)
			require.NoError(f.t, os.Rename(path+".new", path))
		},
		"a ConfigMap's link swapped": func(f *fleet, path, text string) {
			dir := filepath.Dir(path)
			data, err := os.MkdirTemp(dir, "..data")
			require.NoError(f.t, err)
			f.write(filepath.Join(data, "c.yaml"), text)
			link := filepath.Join(dir, "..next")
			require.NoError(f.t, os.Symlink(filepath.Join(data, "c.yaml"), link))
			require.NoError(f.t, os.Rename(link, path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, tables.New(t, store.SQLite))
			file := filepath.Join(t.TempDir(), "c.yaml")
			replace(f, file, "queue: {cap: 100}\nhttp: {addr: ':1'}")
			a, b := f.start(file, nil), f.start(file, nil)
			a.lookTwice(t.Context())
			require.Len(t, a.applied, 1, "nothing has changed")
			replace(f, file, "queue: {cap: 200}\nhttp: {addr: ':2'}")
			a.lookTwice(t.Context())
			b.lookTwice(t.Context())
			require.Equal(t, 200, b.config().Queue.Cap)
			require.Equal(t, ":1", b.config().HTTP.Addr, "this needs a restart")
			require.NoError(t, a.follow(t.Context()))
			list, err := a.Versions(t.Context(), 0, 10)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "file", list[0].Source)
			for _, i := range []*instance{a, b} {
				version, digest := i.Version()
				require.EqualValues(t, 1, version)
				_, other := a.Version()
				require.Equal(t, other, digest)
			}
			replace(f, file, "queue: {cap: none}")
			a.lookTwice(t.Context())
			a.lookTwice(t.Context())
			require.Equal(t, 200, a.config().Queue.Cap)
			require.InDelta(t, 1, a.outcome("invalid"), 0, "one complaint for one mistake")
		})
	}
}

func TestReloadSaysWhatHappened(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	file := filepath.Join(t.TempDir(), "c.yaml")
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	by := settings.Author{Actor: "ann"}
	result, err := a.Reload(t.Context(), by)
	require.NoError(t, err)
	require.Empty(t, result)
	require.InDelta(t, 1, a.outcome("unchanged"), 0)
	f.write(file, "queue: {cap: 200, lease: 20s}\nlog: {level: warn}")
	result, err = a.Reload(t.Context(), by)
	require.NoError(t, err)
	require.Equal(t, settings.ReloadResult{Changed: []string{"queue.cap", "log.level"},
		NeedsRestart: []string{"queue.lease"}}, result)
	require.Equal(t, 10*time.Second, a.config().Queue.Lease)
	f.write(file, "queue: {cap: 0}\npool: {size: x}")
	_, err = a.Reload(t.Context(), by)
	var bad invalid.Error
	require.ErrorAs(t, err, &bad)
	require.Len(t, bad, 2)
	require.Equal(t, "pool.size", bad[0].Field)
	require.Equal(t, 200, a.config().Queue.Cap)
	f.write(file, "queue: {cap: 300}")
	a.Signalled(t.Context())
	require.Equal(t, 300, a.config().Queue.Cap)
	list, err := a.Versions(t.Context(), 0, 1)
	require.NoError(t, err)
	require.Equal(t, "signal", list[0].Source)
}

// TestTheFileCountsWithoutTheDatabase checks that a change of the file is applied without the database and becomes a
// version later.
func TestTheFileCountsWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	file := filepath.Join(t.TempDir(), "c.yaml")
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	f.write(file, "queue: {cap: 200}")
	back := f.hideVersions()
	_, err := a.Reload(t.Context(), settings.Author{Actor: "ann", Reason: "smaller line"})
	require.NoError(t, err)
	require.Equal(t, 200, a.config().Queue.Cap)
	version, _ := a.Version()
	require.Zero(t, version)
	back()
	require.NoError(t, a.follow(t.Context()))
	version, _ = a.Version()
	require.EqualValues(t, 1, version)
	list, err := a.Versions(t.Context(), 0, 1)
	require.NoError(t, err)
	require.Equal(t, "ann", list[0].Actor, "who asked is not forgotten")
	require.Equal(t, "smaller line", list[0].Reason)
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	a := f.start("", nil)
	b := f.start("", nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	require.NoError(t, a.Change(t.Context(), change(map[string]any{"pool.size": 5})))
	require.Eventually(t, func() bool { return b.Config().Pool.Size == 5 }, 10*time.Second, 10*time.Millisecond)
	cancel()
	<-done
}
