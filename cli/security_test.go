package cli

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

func TestCommandLineReachesATLSListener(t *testing.T) {
	cert, key := testkit.Certificate(t, t.TempDir(), 1)
	s := serve(t, "--set", "ops.tls_cert="+cert, "--set", "ops.tls_key="+key, "--set", "http.tls_cert="+cert, "--set",
		"http.tls_key="+key)
	require.Equal(t, exitSuccess, sluice(t, s.env, "audit", "--ops", "https://"+s.ops, "--ca", cert).code)
	require.Equal(t, exitSuccess, sluice(t, s.env, "audit", "--ops", s.ops, "--set", "ops.ca_file="+cert).code,
		"https is understood")

	other, _ := testkit.Certificate(t, t.TempDir(), 2)
	got := sluice(t, s.env, "audit", "--ops", "https://"+s.ops, "--ca", other)
	require.Equal(t, exitUnknown, got.code)
	require.Contains(t, got.err, "certificate")
	got = sluice(t, s.env, "audit", "--ops", "https://"+s.ops, "--ca", filepath.Join(t.TempDir(), "none"))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "--ca")
	require.Equal(t, exitUnknown, sluice(t, s.env, "audit", "--ops", "http://"+s.ops).code, "plain HTTP is refused")
}
