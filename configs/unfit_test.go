package configs

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway"
	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/store"
)

// A file that does not fit what operators have set undoes no switch: not at a restart, and not while it runs.
func TestSwitchesCountWhereTheFileDoesNotFit(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testkit.NewDatabase(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 50}")
	old, a := f.start(file, nil), f.start("", nil)
	require.NoError(t, a.Change(ctx, change(map[string]any{"gateway.admission": false, "queue.drain": false})))
	require.NoError(t, a.Change(ctx, change(map[string]any{"queue.max_wait": "10s", "limits.global_rps": 7})))
	require.NoError(t, old.follow(ctx))
	for who, i := range map[string]*instance{"one that runs": old, "one that starts": f.start(file, nil)} {
		require.False(t, i.counts().Gateway.Admission, who)
		require.False(t, i.counts().Queue.Drain, who)
		require.InDelta(t, 7, i.counts().Limits.GlobalRPS, 0, who)
		require.Equal(t, 50, i.counts().Queue.Cap, who)
		require.Zero(t, i.counts().Queue.MaxWait, "%s: min_cap is above cap", who)
		require.InDelta(t, 1, i.outcome("invalid"), 0, who)
		require.Contains(t, i.log.String(), "keys=[queue.max_wait]", who)
		require.Equal(t, []string{"queue.max_wait"}, i.Show(ctx).Left, who)
		whole, _ := i.Version()
		require.Less(t, whole, int64(2), who)
	}

	// The switches can be set there, and are followed from elsewhere.
	require.NoError(t, old.Change(ctx, change(map[string]any{"queue.drain": true})))
	require.True(t, old.counts().Queue.Drain)
	require.NoError(t, a.Change(ctx, change(map[string]any{"gateway.admission": true})))
	require.NoError(t, old.follow(ctx))
	require.True(t, old.counts().Gateway.Admission)
	var bad inventory.InvalidError
	require.ErrorAs(t, old.Change(ctx, change(map[string]any{"queue.min_cap": 60, "pool.size": 0})), &bad, "but nothing else that is not valid")
	require.ErrorAs(t, old.Change(ctx, change(map[string]any{"queue.max_wait": "2h"})), &bad, "also of a key that does not fit as it is")
	require.InDelta(t, 3, old.outcome("invalid"), 0)

	f.write(file, "queue: {cap: 500}")
	old.look(ctx)
	require.Equal(t, 10*time.Second, old.counts().Queue.MaxWait)
	require.Empty(t, old.Show(ctx).Left)
	whole, _ := old.Version()
	require.EqualValues(t, 5, whole)
}

// A key may be valid only beside one that comes after it.
func TestFitFindsWhatIsValidTogether(t *testing.T) {
	t.Parallel()
	base, err := Load(Options{Env: withSecret()})
	require.NoError(t, err)
	o := overlay{}.with(entry{Key: "queue.cap", Value: 50}, entry{Key: "queue.max_wait", Value: "10s"}, entry{Key: "queue.min_cap", Value: 10},
		entry{Key: "pool.size", Value: "of an older time"})
	counts, left, err := base.fit(o)
	require.Error(t, err)
	require.Equal(t, []string{"pool.size"}, left)
	require.Equal(t, 10*time.Second, counts.Config.Queue.MaxWait)
}

// A file that is refused counts as soon as it can: when it is mended, or what it did not fit is gone.
func TestARefusedFileIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testkit.NewDatabase(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	require.NoError(t, a.Change(ctx, brief(time.Minute, map[string]any{"queue.max_wait": "10s"})))
	f.write(file, "queue: {cap: 50}")
	for range 3 {
		a.look(ctx)
	}
	require.Equal(t, 100, a.counts().Queue.Cap)
	require.InDelta(t, 1, a.outcome("invalid"), 0)
	require.Equal(t, 1, strings.Count(a.log.String(), "the file was refused"))
	f.clock.Advance(time.Minute)
	a.look(ctx)
	require.Equal(t, 50, a.counts().Queue.Cap, "what it did not fit has ended")

	f.write(file, "queue: {cap: none}")
	a.look(ctx)
	_, err := a.Reload(ctx, gateway.SettingsAuthor{Actor: "ann"})
	require.Error(t, err)
	require.InDelta(t, 3, a.outcome("invalid"), 0, "who asks is told again")
	f.write(file, "queue: {cap: 60}")
	a.look(ctx)
	require.Equal(t, 60, a.counts().Queue.Cap)
}

// What the file does not hold itself may be what was wrong.
func TestARefusedFileIsTriedAgainWhenASecretIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testkit.NewDatabase(t, store.SQLite))
	dir := t.TempDir()
	file, secret := dir+"/c.yaml", dir+"/secret"
	f.write(file, "queue: {cap: 100}")
	f.write(secret, "0123456789abcdef0123456789abcdef")
	boot, err := Load(Options{File: file, Env: []string{"SLUICE_AUTH__SECRET_FILE=" + secret}})
	require.NoError(t, err)
	a := f.run(boot)
	f.write(file, "queue: {cap: 200}")
	f.write(secret, "")
	a.look(t.Context())
	require.Equal(t, 100, a.counts().Queue.Cap)
	f.write(secret, "0123456789abcdef0123456789abcdef")
	a.look(t.Context())
	require.Equal(t, 200, a.counts().Queue.Cap)
}

// The file may change while a process starts.
func TestTheFileIsComparedWithWhatWasLoaded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testkit.NewDatabase(t, store.SQLite))
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	boot, err := Load(Options{File: file, Env: withSecret()})
	require.NoError(t, err)
	f.write(file, "queue: {cap: 200}")
	a := f.run(boot)
	a.look(t.Context())
	require.Equal(t, 200, a.counts().Queue.Cap)
}
