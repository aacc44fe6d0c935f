package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// debian is a machine on which apt-get works as given and packages ask the
// policy before they start a service.
type debian struct {
	installer
	log       bytes.Buffer
	calls     []string
	installed bool
}

func newDebian(t *testing.T, install func(d *debian) error) *debian {
	d := &debian{}
	d.installer = installer{
		needs: []need{
			{"present", []string{"there"}, func() bool { return true }},
			{"a store", []string{"store-server", "store-dev"}, func() bool { return d.installed }},
		},
		may:    true,
		policy: filepath.Join(t.TempDir(), "policy-rc.d"),
		out:    &d.log,
		apt: func(_ context.Context, args ...string) error {
			d.calls = append(d.calls, strings.Join(args, " "))
			if args[0] == "update" {
				return nil
			}
			return install(d)
		},
	}
	return d
}

func succeed(d *debian) error {
	text, err := os.ReadFile(d.policy)
	if err != nil || !strings.Contains(string(text), "exit 101") {
		return errors.New("the service was started")
	}
	if info, err := os.Stat(d.policy); err != nil || info.Mode().Perm() != 0o755 {
		return errors.New("the policy cannot be run")
	}
	d.installed = true
	return nil
}

func TestEnsureInstallsWhatIsMissingWithoutStartingServices(t *testing.T) {
	t.Parallel()
	d := newDebian(t, succeed)
	require.NoError(t, d.ensure(t.Context()))
	require.Equal(t, []string{
		"update",
		"install --yes --no-install-recommends store-server store-dev",
	}, d.calls)
	require.Contains(t, d.log.String(), "installing store-server store-dev")
	require.NoFileExists(t, d.policy)

	require.NoError(t, d.ensure(t.Context()))
	require.Len(t, d.calls, 2, "nothing is missing any more")
}

func TestEnsurePutsTheMachinesOwnPolicyBack(t *testing.T) {
	t.Parallel()
	for name, install := range map[string]func(*debian) error{
		"after success": succeed,
		"after failure": func(*debian) error { return errors.New("no space left") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDebian(t, install)
			require.NoError(t, os.WriteFile(d.policy, []byte("own"), 0o700))
			err := d.ensure(t.Context())
			require.Equal(t, name == "after failure", err != nil)
			text, err := os.ReadFile(d.policy)
			require.NoError(t, err)
			require.Equal(t, "own", string(text))
			info, err := os.Stat(d.policy)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
		})
	}
}

func TestEnsureSaysWhatToInstallWhenItMayNot(t *testing.T) {
	t.Parallel()
	d := newDebian(t, succeed)
	d.may = false
	err := d.ensure(t.Context())
	require.ErrorContains(t, err, "not installed: a store.")
	require.ErrorContains(t, err, "apt-get install --no-install-recommends store-server store-dev")
	require.Empty(t, d.calls)
}

func TestEnsureNoticesAnInstallationThatBroughtNothing(t *testing.T) {
	t.Parallel()
	d := newDebian(t, func(*debian) error { return nil })
	require.ErrorContains(t, d.ensure(t.Context()), "still not found after installing store-server store-dev: a store")
}

func TestThisMachineHasWhatTheTestsNeed(t *testing.T) {
	t.Parallel()
	names, packages := newInstaller(&bytes.Buffer{}).missing()
	require.Empty(t, names)
	require.Empty(t, packages)
}
