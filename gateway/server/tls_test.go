package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/internal/testkit"
)

// serial returns the serial number of the certificate that a configuration presents.
func serial(t *testing.T, config *tls.Config) int64 {
	t.Helper()
	shown, err := config.GetCertificate(nil)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(shown.Certificate[0])
	require.NoError(t, err)
	return parsed.SerialNumber.Int64()
}

func TestChangedCertificateIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clock := testkit.NewClock(time.UnixMilli(1e12))
	cert, key := testkit.Certificate(t, dir, 1)
	c, err := LoadCertificate(cert, key, quietLog(), clock.Now)
	require.NoError(t, err)
	config := c.Config()
	require.Equal(t, uint16(tls.VersionTLS12), config.MinVersion)
	require.EqualValues(t, 1, serial(t, config))

	testkit.Certificate(t, dir, 22)
	require.EqualValues(t, 1, serial(t, config), "looked at within the second")
	clock.Advance(certificateCheck)
	require.EqualValues(t, 22, serial(t, config))

	require.NoError(t, os.WriteFile(key, []byte("half written"), 0o600))
	clock.Advance(certificateCheck)
	require.EqualValues(t, 22, serial(t, config), "a broken file keeps the old one")
	testkit.Certificate(t, dir, 333)
	clock.Advance(certificateCheck)
	require.EqualValues(t, 333, serial(t, config))

	_, err = LoadCertificate(cert, filepath.Join(dir, "none"), quietLog(), clock.Now)
	require.ErrorContains(t, err, "none")
}

func TestServesHTTPS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testkit.Certificate(t, t.TempDir(), 1)
	cert, err := LoadCertificate(certFile, keyFile, quietLog(), time.Now)
	require.NoError(t, err)
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	srv := NewServer(DefaultHTTPConfig(), bodyEngine(t), cert.Config(), nothingPlain, quietLog())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.NoError(t, <-served)
	})

	pem, err := os.ReadFile(certFile)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("https://"+ln.Addr().String()+"/", "text/plain", http.NoBody)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "HTTP/2.0", resp.Proto)

	_, err = tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11,
		MinVersion: tls.VersionTLS10})
	require.Error(t, err, "old TLS is refused")
}
