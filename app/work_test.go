package app

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/internal/testkit/shop"
)

// systemsToken is a token of another system.
func systemsToken(t *testing.T, rights auth.Rights) string {
	t.Helper()
	rights.System = "logistics"
	token, err := auth.MintWork(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret}, rights, time.Hour, time.Now())
	require.NoError(t, err)
	return token
}

// asSystem sends a body with a token and returns status and text.
func asSystem(t *testing.T, client *http.Client, token, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, text.String()
}

// readableTopic makes topic points with a pull subscription.
func readableTopic(t *testing.T, app *App, name string, lease time.Duration) {
	t.Helper()
	if _, err := app.topics.Get(t.Context(), "points"); err != nil {
		_, err = app.topics.Create(t.Context(), "points", delay.Change{URL: new("")}, "ann", "")
		require.NoError(t, err)
	}
	_, err := app.topics.CreateSubscription(t.Context(), delay.NewSubscription{Name: name, Topic: "points",
		Kind: delay.Pull}, delay.SubscriptionChange{LeaseMS: new(lease.Milliseconds())}, "ann", "")
	require.NoError(t, err)
}

// A process of the role gateway has the listener where it has an address. Its tokens open nothing else, and a stop ends
// the wait of who waits there.
func TestTheWorkListener(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t).Addr()
	off := shop.Config(t, "sqlite", redis)
	cfg := off
	cfg.Work.Addr = "127.0.0.1:0"
	require.Empty(t, startApp(t, off, AllRoles()).WorkAddr())
	require.Empty(t, startApp(t, cfg, Roles{Worker: true}).WorkAddr())
	app := startApp(t, cfg, Roles{Gateway: true})
	readableTopic(t, app, "stock", time.Minute)

	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	token := systemsToken(t, auth.Rights{Publish: []string{"points"}, Subscribe: []string{"stock"}})
	base := "http://" + app.WorkAddr() + "/work/v1"
	status, text := asSystem(t, client, token, http.MethodPost, base+"/topics/points/messages",
		`{"messages":[{"id":"m1","body":{}}]}`)
	require.Equal(t, http.StatusOK, status, text)
	_, text = asSystem(t, client, token, http.MethodPost, base+"/subscriptions/stock/receive", `{"wait":"20s"}`)
	require.Contains(t, text, `"id":"m1"`)

	status, _ = asSystem(t, client, token, http.MethodGet, "http://"+app.OpsAddr()+"/admin/v1/topics", "")
	require.Equal(t, http.StatusForbidden, status)
	status, _ = asSystem(t, client, token, http.MethodGet, "http://"+app.Addr()+"/v1/orders", "")
	require.Equal(t, http.StatusUnauthorized, status)
	for _, path := range []string{"/work/v1/topics/points/messages", "/admin/v1/topics", "/metrics", "/v1/sales"} {
		for _, addr := range []string{app.Addr(), app.OpsAddr(), app.WorkAddr()} {
			belongs := strings.HasPrefix(path, "/work") && addr == app.WorkAddr() ||
				(path == "/metrics" || path == "/admin/v1/topics") && addr == app.OpsAddr() ||
				path == "/v1/sales" && addr == app.Addr()
			status, _ := asSystem(t, client, token, http.MethodGet, "http://"+addr+path, "")
			require.Equal(t, !belongs, status == http.StatusNotFound, "%s at %s: %d", path, addr, status)
		}
	}

	waits := make(chan int, 1)
	begun := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/subscriptions/stock/receive",
		strings.NewReader(`{"wait":"30s"}`))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			waits <- 0
			return
		}
		_ = resp.Body.Close()
		waits <- resp.StatusCode
	}()
	require.Eventually(t, func() bool {
		families, err := app.opt.Registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "sluice_work_waiting_receivers" {
				return f.GetMetric()[0].GetGauge().GetValue() == 1
			}
		}
		return false
	}, 20*time.Second, 5*time.Millisecond)
	addr := app.WorkAddr()
	require.NoError(t, stopApp(app))
	require.Equal(t, http.StatusOK, <-waits)
	require.Less(t, time.Since(begun), 28*time.Second, "it was not waited for")
	_, err = net.DialTimeout("tcp", addr, time.Second)
	require.Error(t, err)
}

// The listener has TLS of its own.
func TestTheWorkListenerWithTLS(t *testing.T) {
	t.Parallel()
	cfg := shop.Config(t, "sqlite", testkit.Redis(t).Addr())
	cfg.Work.Addr = "127.0.0.1:0"
	cfg.Work.TLSCert, cfg.Work.TLSKey = testkit.Certificate(t, t.TempDir(), 1)
	app := startApp(t, cfg, AllRoles())
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(cfg.Work.TLSCert)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(pem))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	status, _ := asSystem(t, client, "", http.MethodGet, "https://"+app.WorkAddr()+"/openapi.json", "")
	require.Equal(t, http.StatusOK, status)
}
