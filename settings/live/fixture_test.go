package live

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/settings"
	"sluice/store"
)

// withSecret returns an environment with the one key that has no default.
func withSecret() []string {
	return []string{"SLUICE_AUTH__SECRET=0123456789abcdef0123456789abcdef"}
}

// fleet is a database that several instances share.
type fleet struct {
	t     *testing.T
	db    *store.DB
	clock *testkit.Clock
}

func newFleet(t *testing.T, d testkit.Database) *fleet {
	t.Helper()
	return &fleet{t: t, db: tables.Open(t, d), clock: testkit.NewClock(time.Unix(1_800_000_000, 0))}
}

// onEveryDatabase runs a test on every database.
func onEveryDatabase(t *testing.T, test func(f *fleet)) {
	t.Helper()
	t.Parallel()
	for _, d := range tables.Databases(t) {
		t.Run(d.Driver, func(t *testing.T) {
			t.Parallel()
			test(newFleet(t, d))
		})
	}
}

// instance is one Settings with the configurations that it has applied.
type instance struct {
	*Settings
	applied []configs.Config
	log     *bytes.Buffer
}

// start runs an instance with a file, or without one for "".
func (f *fleet) start(file string, flags map[string]any) *instance {
	f.t.Helper()
	boot, err := configs.Load(configs.Options{File: file, Env: withSecret(), Flags: flags})
	require.NoError(f.t, err)
	return f.run(boot)
}

func (f *fleet) run(boot *configs.Loaded) *instance {
	f.t.Helper()
	i := f.unsynced(boot)
	require.NoError(f.t, i.Sync(f.t.Context()))
	return i
}

// unsynced returns an instance that has read no overrides yet; nil means no file.
func (f *fleet) unsynced(boot *configs.Loaded) *instance {
	f.t.Helper()
	if boot == nil {
		loaded, err := configs.Load(configs.Options{Env: withSecret()})
		require.NoError(f.t, err)
		boot = loaded
	}
	i := &instance{log: new(bytes.Buffer)}
	i.Settings = New(boot, f.db, slog.New(slog.NewTextHandler(i.log, nil)), f.clock.Now, prometheus.NewRegistry())
	i.OnChange(func(c configs.Config) { i.applied = append(i.applied, c) })
	return i
}

// hideVersions makes the stored overrides unreadable until back is called.
func (f *fleet) hideVersions() (back func()) {
	f.t.Helper()
	rename := func(from, to string) {
		require.NoError(f.t, f.db.Write.Exec("ALTER TABLE "+from+" RENAME TO "+to).Error)
	}
	rename("config_versions", "elsewhere")
	return func() { rename("elsewhere", "config_versions") }
}

func (f *fleet) write(path, text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(path, []byte(text), 0o600))
}

// config returns the configuration that an instance applied last.
func (i *instance) config() configs.Config { return i.applied[len(i.applied)-1] }

// lookTwice checks the file twice, as a change of the file needs.
func (i *instance) lookTwice(ctx context.Context) {
	i.lookAtFile(ctx)
	i.lookAtFile(ctx)
}

func (i *instance) outcome(name string) float64 {
	return testutil.ToFloat64(i.metrics.reloads.WithLabelValues(name))
}

// brief returns a temporary change.
func brief(d time.Duration, set map[string]any, unset ...string) settings.Change {
	c := change(set, unset...)
	c.For = d
	return c
}

func change(set map[string]any, unset ...string) settings.Change {
	return settings.Change{Set: set, Unset: unset, By: settings.Author{Actor: "ann", Reason: "rush",
		IfVersion: settings.AnyVersion}}
}
