package live

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/internal/testkit/tables"
	"sluice/settings"
	"sluice/store"
)

// written is a file system with one file that has the next content at each opening, and keeps the last.
type written struct{ contents []string }

func (w *written) Open(name string) (fs.File, error) {
	text := w.contents[0]
	if len(w.contents) > 1 {
		w.contents = w.contents[1:]
	}
	return fstest.MapFS{name: {Data: []byte(text)}}.Open(name)
}

const (
	stopping = "gateway: {admission: false}\nqueue: {drain: false}"
	halfOfIt = "gateway: {admission: false}"
)

// TestAFileThatIsBeingWrittenDoesNotCount checks that an empty or half-written file is not applied.
func TestAFileThatIsBeingWrittenDoesNotCount(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "c.yaml")
	f.write(file, stopping)
	a := f.start(file, nil)
	for _, text := range []string{"", halfOfIt, stopping + "\n", halfOfIt, "", "", "\n", "\n", "# queue", "# queue",
		"queue:", "queue:", stopping, stopping} {
		f.write(file, text)
		a.lookAtFile(ctx)
		require.False(t, a.config().Gateway.Admission, "%q", text)
		require.False(t, a.config().Queue.Drain, "%q", text)
	}
	require.Contains(t, a.log.String(), "the file sets no key")
	f.write(file, halfOfIt)
	a.lookTwice(ctx)
	require.True(t, a.config().Queue.Drain, "what stays counts")
}

// TestWhoAsksForAFileWaitsUntilItIsWritten checks that a reload or start does not read a half-written file.
func TestWhoAsksForAFileWaitsUntilItIsWritten(t *testing.T) {
	t.Parallel()
	contents := []string{stopping, "", halfOfIt, stopping + "\npool: {size: 3}"}
	opts := configs.Options{File: "c.yaml", FS: &written{contents[1:]}, Env: withSecret()}
	loaded, err := configs.LoadSteady(t.Context(), opts)
	require.NoError(t, err)
	require.Equal(t, 3, loaded.Config.Pool.Size)
	require.False(t, loaded.Config.Queue.Drain)

	f := newFleet(t, tables.New(t, store.SQLite))
	opts.FS = &written{contents}
	boot, err := configs.Load(opts)
	require.NoError(t, err)
	a := f.run(boot)
	result, err := a.Reload(t.Context(), settings.Author{Actor: "ann"})
	require.NoError(t, err)
	require.Equal(t, []string{"pool.size"}, result.Changed)
	for _, cfg := range a.applied {
		require.False(t, cfg.Queue.Drain)
	}

	_, err = configs.LoadSteady(t.Context(), configs.Options{File: "none.yaml", FS: fstest.MapFS{}, Env: withSecret()})
	require.ErrorContains(t, err, "configuration file: open none.yaml")
}

// TestAFileThatIsGoneIsToldOnce checks that a missing file is logged once, shown while it is missing, and changes
// nothing.
func TestAFileThatIsGoneIsToldOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tables.New(t, store.SQLite))
	file := filepath.Join(t.TempDir(), "c.yaml")
	f.write(file, stopping)
	a := f.start(file, nil)
	for n, replace := range []func(){func() {}, func() { require.NoError(t, os.Mkdir(file, 0o700)) }} {
		require.NoError(t, os.Remove(file))
		replace()
		a.lookAtFile(t.Context())
		require.True(t, a.fileValid.Load(), "for a moment it may be away")
		for range 5 {
			a.lookAtFile(t.Context())
		}
		require.False(t, a.config().Queue.Drain)
		require.Equal(t, n+1, strings.Count(a.log.String(), "the configuration file cannot be read"))
		require.InDelta(t, n+1, a.outcome("invalid"), 0)
		require.False(t, a.fileValid.Load())
		require.NoError(t, os.RemoveAll(file))
		f.write(file, stopping)
		a.lookTwice(t.Context())
		require.Equal(t, n+1, strings.Count(a.log.String(), "can be read again"))
		require.True(t, a.fileValid.Load())
	}
	require.NoError(t, os.Remove(file))
	_, err := a.Reload(t.Context(), settings.Author{Actor: "ann"})
	require.ErrorContains(t, err, "c.yaml")
	f.write(file, stopping)
	a.lookTwice(t.Context())
	require.True(t, a.fileValid.Load())
}
