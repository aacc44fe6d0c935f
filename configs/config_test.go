package configs

import (
	"io/fs"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const testSecret = "0123456789abcdef0123456789abcdef"

func withSecret(more ...string) []string {
	return append([]string{"SLUICE_AUTH__SECRET=" + testSecret}, more...)
}

func TestDefaultsNeedOnlyASecret(t *testing.T) {
	t.Parallel()
	err := Default().Validate()
	require.ErrorContains(t, err, "auth.secret")
	require.Len(t, SplitErrors(err), 1)

	got, err := Load(Options{Env: withSecret()})
	require.NoError(t, err)
	want := Default()
	want.Auth.Secret = testSecret
	require.Equal(t, want, got.Config)

	_, err = Load(Options{Sections: []string{"database"}})
	require.NoError(t, err)
	require.Equal(t, "X-User-Id", got.Config.Auth.Header)
	require.Equal(t, 10_000, got.Config.Queue.Cap)
	require.Equal(t, 8, got.Config.Pool.Size)
}

func TestShippedFilesLoad(t *testing.T) {
	t.Parallel()
	production := withSecret("SLUICE_REDIS__PASSWORD=redis-password",
		"SLUICE_DATABASE__DSN=postgres://u:p@db:5432/sluice")
	for name, env := range map[string][]string{
		"embedded.yaml": withSecret(), "production.yaml": production, "limits.yaml": withSecret(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := Load(Options{File: name, FS: Shipped(), Env: env})
			require.NoError(t, err)
			require.Equal(t, "file "+name, l.Source("queue.cap"))
			require.Equal(t, "env SLUICE_AUTH__SECRET", l.Source("auth.secret"))
		})
	}
	l, err := Load(Options{File: "production.yaml", FS: Shipped(), Env: production})
	require.NoError(t, err)
	require.Equal(t, "postgres", l.Config.Database.Driver)
	require.Equal(t, "redis-password", l.Config.Redis.Password)

	_, err = Load(Options{File: "production.yaml", FS: Shipped(), Env: production[1:]})
	require.ErrorContains(t, err, "auth.secret")
}

var commented = regexp.MustCompile(`(?m)^( *)# ([a-z_]+: .+)$`)

// TestShippedFilesShowEveryKey checks that each commented line is a key with a valid value and that no key is missing.
func TestShippedFilesShowEveryKey(t *testing.T) {
	t.Parallel()
	s := newSchema(reflect.TypeFor[Config]())
	seen := map[string]bool{}
	for _, name := range []string{"production.yaml", "limits.yaml", "embedded.yaml"} {
		text, err := fs.ReadFile(Shipped(), name)
		require.NoError(t, err)
		l := newLayer()
		s.parse(l, commented.ReplaceAll(text, []byte("$1$2")), name)
		require.Empty(t, l.errs, name)
		for path, value := range l.values {
			seen[path] = true
			if s.byPath[path].secret && path != "database.dsn" {
				require.Empty(t, value, "%s holds a secret in %s", name, path)
			}
		}
	}
	for _, k := range s.keys {
		require.True(t, seen[k.path], "%s is in none of the shipped files", k.path)
	}
}

// TestProductionShowsTheDefaults checks that commented values in production.yaml are the defaults, unless the default
// is empty.
func TestProductionShowsTheDefaults(t *testing.T) {
	t.Parallel()
	s := newSchema(reflect.TypeFor[Config]())
	text, err := fs.ReadFile(Shipped(), "production.yaml")
	require.NoError(t, err)
	set, all := newLayer(), newLayer()
	s.parse(set, text, "")
	s.parse(all, commented.ReplaceAll(text, []byte("$1$2")), "")
	defaults := reflect.ValueOf(Default())
	for path, value := range all.values {
		want := defaults.FieldByIndex(s.byPath[path].index)
		if _, chosen := set.values[path]; chosen || want.IsZero() || path == "database.dsn" {
			continue
		}
		require.Equal(t, want.Interface(), value, path)
	}
}

func TestLogAndStop(t *testing.T) {
	t.Parallel()
	require.Equal(t, slog.LevelWarn, LogConfig{Level: "warn"}.SlogLevel())
	require.Equal(t, slog.LevelInfo, LogConfig{Level: "?"}.SlogLevel())
	require.ErrorContains(t, LogConfig{Level: "loud", Format: "json"}.Validate(),
		"log.level must be debug, info, warn or error")
	require.ErrorContains(t, LogConfig{Level: "info", Format: "xml"}.Validate(), "log.format must be json or text")
	require.ErrorContains(t, StopConfig{}.Validate(), "stop.grace must be between 1s and 10m, got 0s")
}

func FuzzFile(f *testing.F) {
	for _, name := range []string{"production.yaml", "limits.yaml", "embedded.yaml"} {
		text, err := fs.ReadFile(Shipped(), name)
		require.NoError(f, err)
		f.Add(text)
	}
	for _, text := range []string{"queue: {cap: 1e4}", "queue:\n  ? [a]\n  : 1", "1: 2", "redis: {addrs: [a, 1]}",
		"a: &a [*a]", "queue.cap: 1", "? {a: b}\n: c", "---\n- 1"} {
		f.Add([]byte(text))
	}
	s := newSchema(reflect.TypeFor[Config]())
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newLayer()
		s.parse(l, text, "fuzz")
		cfg := Default()
		for path, value := range l.values {
			k := s.byPath[path]
			reflect.ValueOf(&cfg).Elem().FieldByIndex(k.index).Set(reflect.ValueOf(value))
		}
		_ = cfg.Validate()
		for _, err := range l.errs {
			require.NotEmpty(t, strings.TrimSpace(err.Error()))
		}
	})
}
