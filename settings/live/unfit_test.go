package live

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/internal/invalid"
	"sluice/internal/testkit/tables"
	"sluice/queue/worker"
	"sluice/settings"
	"sluice/store"
)

// TestNoFileUndoesWhatOperatorsHaveSet checks that overrides outrank an instance's file, while it runs and after a
// restart.
func TestNoFileUndoesWhatOperatorsHaveSet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {batch: 10}")
	old, a := f.start(file, nil), f.start("", nil)
	set := map[string]any{"gateway.admission": false, "queue.drain": false, "queue.max_wait": "10s",
		"limits.global_rps": 7}
	for n := range 20 {
		set[fmt.Sprintf("queue.held.mine-%d", n)] = true
		set[fmt.Sprintf("limits.sales.mine-%d", n)] = map[string]any{"global_rps": 1}
	}
	require.NoError(t, a.Change(ctx, change(set)))
	require.NoError(t, old.follow(ctx))
	var held, limited []string
	for n := range 1000 {
		held = append(held, fmt.Sprintf("t%d", n))
	}
	for n := range 64 {
		limited = append(limited, fmt.Sprintf("t%d: {global_rps: 2}", n))
	}
	f.write(file, "gateway: {admission: true}\nqueue: {drain: true, cap: 50, held: ["+strings.Join(held, ", ")+"]}\n"+
		"limits: {sales: {"+strings.Join(limited, ", ")+"}}")
	old.lookTwice(ctx)
	for who, i := range map[string]*instance{"one that runs": old, "one that starts": f.start(file, nil)} {
		require.False(t, i.config().Gateway.Admission, who)
		require.False(t, i.config().Queue.Drain, who)
		require.InDelta(t, 7, i.config().Limits.GlobalRPS, 0, who)
		require.Equal(t, 50, i.config().Queue.Cap, who)
		require.Equal(t, 10*time.Second, i.config().Queue.MaxWait, "%s: although min_cap is above cap", who)
		require.Len(t, i.config().Queue.Held, 1020, who)
		require.Len(t, i.config().Limits.Sales, 84, who)
		require.Empty(t, i.Show(ctx).LeftOut, who)
		require.Contains(t, i.log.String(), "queue.min_cap must be between 1 and 50, got 100", who)
		require.Zero(t, i.outcome("invalid"), who)
	}

	// An existing contradiction prevents no other change; a new one is refused.
	require.NoError(t, old.Change(ctx, change(map[string]any{"queue.drain": true})))
	require.True(t, old.config().Queue.Drain)
	var bad invalid.Error
	require.ErrorAs(t, old.Change(ctx, change(map[string]any{"queue.min_cap": 60})), &bad)
	require.Equal(t, "queue.min_cap", bad[0].Field)
	require.ErrorAs(t, old.Change(ctx, change(map[string]any{"queue.held.another": true})), &bad,
		"1,021 of at most 1,000")
}

// TestAValueOfAnotherVersionIsLeftOutAlone checks that only unacceptable values are left out, that answers say so, and
// that a restart changes nothing.
func TestAValueOfAnotherVersionIsLeftOutAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	a := f.start("", nil)
	require.NoError(t, a.Change(ctx, change(map[string]any{"gateway.admission": false, "pool.size": 3})))
	require.NoError(t, f.db.Write.Exec("UPDATE config_versions SET overlay = ? WHERE version = 1",
		`[{"key":"gateway.admission","value":false},{"key":"limits.sales","part":"tv","value":{"global_rps":-1}},`+
			`{"key":"limits.sales","part":"phone","value":{"global_rps":5}},{"key":"pool.size","value":9999},`+
			`{"key":"queue.cap","part":"tv","value":5},{"key":"queue.later","value":1}]`).Error)
	b := f.start("", nil)
	require.False(t, b.config().Gateway.Admission)
	require.Len(t, b.config().Limits.Sales, 1, "each sale by itself")
	require.Equal(t, worker.DefaultPoolConfig().Size, b.config().Pool.Size)
	require.Equal(t, []string{"limits.sales", "pool.size", "queue.cap"}, b.Show(ctx).LeftOut)
	require.InDelta(t, 1, b.outcome("invalid"), 0)
	whole, _ := b.Version()
	require.Zero(t, whole)

	require.Error(t, b.Change(ctx, change(map[string]any{"pool.size": 9999})),
		"what does not count is not taken as set")
	require.NoError(t, b.Change(ctx, change(map[string]any{"pool.size": 4}, "limits.sales", "queue.cap")))
	require.Empty(t, b.Show(ctx).LeftOut)
	whole, _ = b.Version()
	require.EqualValues(t, 2, whole)
}

// TestARefusedFileIsTriedAgain checks that a refused file is applied as soon as it is mended.
func TestARefusedFileIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	a := f.start(file, nil)
	f.write(file, "queue: {cap: none}")
	for range 4 {
		a.lookAtFile(ctx)
	}
	require.Equal(t, 100, a.config().Queue.Cap)
	require.InDelta(t, 1, a.outcome("invalid"), 0)
	require.Equal(t, 1, strings.Count(a.log.String(), "the file was refused"))
	require.False(t, a.fileValid.Load())
	_, err := a.Reload(ctx, settings.Author{Actor: "ann"})
	require.Error(t, err)
	require.InDelta(t, 2, a.outcome("invalid"), 0, "who asks is told again")
	f.write(file, "queue: {cap: 60}")
	a.lookTwice(ctx)
	require.Equal(t, 60, a.config().Queue.Cap)
	require.True(t, a.fileValid.Load())
}

// TestARefusedFileIsTriedAgainWhenASecretIsBack checks that an unchanged file is tried again when a file it names is
// mended.
func TestARefusedFileIsTriedAgainWhenASecretIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	dir := t.TempDir()
	file, secret := dir+"/c.yaml", dir+"/secret"
	f.write(file, "queue: {cap: 100}")
	f.write(secret, "0123456789abcdef0123456789abcdef")
	boot, err := configs.Load(configs.Options{File: file, Env: []string{"SLUICE_AUTH__SECRET_FILE=" + secret}})
	require.NoError(t, err)
	a := f.run(boot)
	f.write(file, "queue: {cap: 200}")
	f.write(secret, "")
	a.lookTwice(t.Context())
	require.Equal(t, 100, a.config().Queue.Cap)
	f.write(secret, "0123456789abcdef0123456789abcdef")
	a.lookTwice(t.Context())
	require.Equal(t, 200, a.config().Queue.Cap)
}

// TestTheFileIsComparedWithWhatWasLoaded checks that a change of the file during the start is noticed.
func TestTheFileIsComparedWithWhatWasLoaded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	file := t.TempDir() + "/c.yaml"
	f.write(file, "queue: {cap: 100}")
	boot, err := configs.Load(configs.Options{File: file, Env: withSecret()})
	require.NoError(t, err)
	f.write(file, "queue: {cap: 200}")
	a := f.run(boot)
	a.lookTwice(t.Context())
	require.Equal(t, 200, a.config().Queue.Cap)
}
