package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// mount is a configuration file as Kubernetes mounts a ConfigMap: the file is
// a link into ..data, which is a link to a folder. A change writes a new folder
// and renames a new link over ..data.
type mount struct {
	t    testing.TB
	dir  string
	swap int
}

const configName = "sluice.yaml"

func newMount(t testing.TB, text string) *mount {
	t.Helper()
	m := &mount{t: t, dir: t.TempDir()}
	m.write(text)
	require.NoError(t, os.Symlink(filepath.Join("..data", configName), m.path()))
	return m
}

func (m *mount) path() string { return filepath.Join(m.dir, configName) }

func (m *mount) write(text string) {
	m.t.Helper()
	m.swap++
	folder := fmt.Sprintf("..version_%d", m.swap)
	require.NoError(m.t, os.Mkdir(filepath.Join(m.dir, folder), 0o755))
	require.NoError(m.t, os.WriteFile(filepath.Join(m.dir, folder, configName), []byte(text), 0o600))
	fresh, data := filepath.Join(m.dir, "..data_tmp"), filepath.Join(m.dir, "..data")
	old, _ := os.Readlink(data) // none the first time
	require.NoError(m.t, os.Symlink(folder, fresh))
	require.NoError(m.t, os.Rename(fresh, data))
	if old != "" {
		require.NoError(m.t, os.RemoveAll(filepath.Join(m.dir, old)))
	}
}
