package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
}

// writeCertificate writes a self-signed certificate for redis.test.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis.test"}, DNSNames: []string{"redis.test"},
		NotBefore: time.Now().
			Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

func managedPID(t *testing.T, r *Store) int {
	t.Helper()
	m := r.server.(*managedServer)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return 0
	}
	return m.process.Pid
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

func TestManagedKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{
		"socket":   filepath.Join(shortDir(t), `with space "and" quote`),
		"long dir": filepath.Join(shortDir(t), strings.Repeat("d", 120)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRedis(t, managedConfig(dir))
			require.Equal(t, ModeManaged, r.Mode)
			require.Equal(
				t,
				map[string]string{"auto-aof-rewrite-min-size": "536870912"},
				r.Client.ConfigGet(t.Context(), "auto-aof-rewrite-min-size").Val(),
			)
			require.Equal(t, DurabilityAlways, r.Durability)
			require.True(t, r.Durable)
			require.NoError(t, r.Client.Set(t.Context(), "order", "42", 0).Err())
			pid := managedPID(t, r)
			require.NoError(t, r.Close())
			require.True(t, gone(pid))

			r = openRedis(t, managedConfig(dir))
			require.Equal(t, "42", r.Client.Get(t.Context(), "order").Val())
			require.NoError(t, r.Close())
		})
	}
}

func TestManagedIsStartedAgainWithItsData(t *testing.T) {
	t.Parallel()
	log, out := newTestLog()
	for _, dir := range []string{shortDir(t), filepath.Join(shortDir(t), strings.Repeat("d", 120))} {
		r, err := Open(t.Context(), managedConfig(dir), log)
		require.NoError(t, err)
		for i := range 3 {
			require.NoError(t, r.Client.Incr(t.Context(), "n").Err())
			pid := managedPID(t, r)
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			require.Eventually(t, func() bool {
				n, err := r.Client.Get(t.Context(), "n").Int()
				return err == nil && n == i+1 && managedPID(t, r) != pid
			}, 20*time.Second, 20*time.Millisecond)
		}
		require.NoError(t, r.Close())
	}
	require.Contains(t, out.String(), "died; starting it again")
}

func TestManagedFolderHasOneOwner(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	r := openRedis(t, managedConfig(dir))
	refuseRedis(t, managedConfig(dir), "in use by process", "redis.dir")
	require.NoError(t, r.Ping(t.Context()))
	require.NoError(t, r.Close())
	require.NoError(t, openRedis(t, managedConfig(dir)).Close())
}

func TestManagedTellsWhyItDidNotStart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "appendonlydir"), 0o700))
	writeFile(t, filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest"), "this is no manifest\n")
	refuseRedis(t, managedConfig(dir), dir, "did not start", "AOF manifest")

	log, _ := newTestLog()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, managedConfig(shortDir(t)), log)
	require.ErrorIs(t, err, context.Canceled)
}

// TestManagedTakesOverFromAKilledOwner checks that a server left behind by a killed owner is ended. On Linux the kernel
// ends it.
func TestManagedTakesOverFromAKilledOwner(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	lock, err := lockDir(t.Context(), dir)
	require.NoError(t, err)
	socket := filepath.Join(dir, "redis.sock")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "")
	cmd.ExtraFiles = []*os.File{lock.file}
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)

	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NoError(t, lock.write("unix", socket, ""))
	text, err := os.ReadFile(lock.file.Name())
	require.NoError(t, err)
	require.Contains(t, string(text), host)
	owner := strings.Replace(string(text), itoa(os.Getpid()), itoa(dead.Process.Pid), 1)
	writeFile(t, lock.file.Name(), owner)
	require.NoError(t, lock.release())

	require.NoError(t, openRedis(t, managedConfig(dir)).Close())
	require.NoError(t, <-ended)
}

func itoa(n int) string { return big.NewInt(int64(n)).String() }
