// Package shop plays what is around a whole process in tests. It has shoppers, the shop that hears
// of orders, and whoever reads its log.
package shop

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/configs"
	"sluice/gateway/auth"
	"sluice/internal/testkit"
	"sluice/inventory"
	"sluice/store/redis"
)

// Secret signs the tokens of tests.
const Secret = "a secret of the tests, long enough for HS256" // #nosec G101 -- of tests

// Config makes a whole configuration on free ports, with an empty database. Without an address the process starts its
// own Redis.
func Config(t *testing.T, driver, redisAddr string) configs.Config {
	t.Helper()
	cfg := configs.Default()
	cfg.Auth.Secret = Secret
	cfg.HTTP.Addr, cfg.Ops.Addr = "127.0.0.1:0", "127.0.0.1:0"
	db := testkit.NewDatabase(t, driver)
	cfg.Database.Driver, cfg.Database.DSN = db.Driver, db.DSN
	cfg.Redis.Dir = t.TempDir()
	if redisAddr != "" {
		cfg.Redis.Mode, cfg.Redis.Addrs = redis.ModeSingle, []string{redisAddr}
	}
	return cfg
}

// Sale fills in an open sale of a phone, one for each shopper unless n says otherwise.
func Sale(n inventory.NewSale) inventory.NewSale {
	now := time.Now()
	n.Title, n.SKU, n.PriceCents, n.Currency, n.Open = "Phone X", "PHONE-X", 9900, "CNY", true
	n.StartsAt, n.EndsAt = now.Add(-time.Minute), now.Add(time.Hour)
	if n.PerUserLimit == 0 {
		n.PerUserLimit = 1
	}
	return n
}

// Order makes the n-th shopper's request for an order at the address of a process.
func Order(t *testing.T, addr, sale string, n int) *http.Request {
	return Request(t, http.MethodPost, "http://"+addr+"/v1/sales/"+sale+"/orders", "shopper-"+strconv.Itoa(n))
}

// Request makes a request with a user's token.
func Request(t *testing.T, method, url, user string) *http.Request {
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	token, err := auth.Mint(auth.Config{Mode: auth.ModeJWT, Secret: Secret}, user, false, time.Hour, time.Now())
	if err != nil {
		t.Error(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

// Ask sends a request without a body, as an administrator or as nobody, and returns the status.
func Ask(t *testing.T, addr, method, path string, admin bool) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	require.NoError(t, err)
	if admin {
		token, err := auth.Mint(auth.Config{Mode: auth.ModeJWT, Secret: Secret}, "root", true, time.Hour, time.Now())
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}
