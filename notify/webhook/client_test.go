package webhook

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPublicAddresses(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111",
		"::ffff:8.8.8.8"} {
		require.True(t, isPublic(netip.MustParseAddr(ok)), ok)
	}
	for _, bad := range []string{
		"127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.100.100.200", "0.0.0.0", "0.1.2.3",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
		"fc00::1", "fd00:ec2::254",
		"ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "2001:db8::1",
		"fec0::1", "::127.0.0.1",
	} {
		require.False(t, isPublic(netip.MustParseAddr(bad)), bad)
	}
}

func TestGuardedClientRefusesPrivateAddresses(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer server.Close()
	guarded, open := GuardedClient(5*time.Second, 8, false), GuardedClient(5*time.Second, 8, true)
	defer guarded.CloseIdleConnections()
	defer open.CloseIdleConnections()
	port := server.URL[len("http://127.0.0.1"):]
	for _, url := range []string{server.URL, "http://localhost" + port, "http://[::ffff:127.0.0.1]" + port,
		"http://0.0.0.0" + port, "http://2130706433" + port} {
		_, err := guarded.Get(url)
		require.Error(t, err, url)
	}
	_, err := guarded.Get("http://localhost" + port)
	require.ErrorIs(t, err, ErrPrivateAddress, "after the name is resolved")
	require.Zero(t, calls.Load())
	resp, err := open.Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.EqualValues(t, 1, calls.Load())
}

func TestGuardedClientFollowsNoRedirectAndHasAnEnd(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	defer server.Close()
	client := GuardedClient(100*time.Millisecond, 8, true)
	defer client.CloseIdleConnections()
	resp, err := client.Post(server.URL+"/moved", "application/json", http.NoBody)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode)
	require.Zero(t, elsewhere.Load())
	_, err = client.Get(server.URL + "/hangs")
	require.Error(t, err)
}
