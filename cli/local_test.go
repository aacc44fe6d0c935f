package cli

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/gateway/auth"
	"sluice/internal/testkit/shop"
	"sluice/store"
)

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	env := []string{secretEnv, "SLUICE_AUTH__ISSUER=shop", "SLUICE_AUTH__AUDIENCE=sluice"}
	authenticator, err := auth.NewAuthenticator(auth.Config{Mode: auth.ModeJWT, Secret: shop.Secret, Issuer: "shop",
		Audience: "sluice"}, nil, time.Now)
	require.NoError(t, err)
	bearer := func(token string) *http.Request {
		return &http.Request{Header: http.Header{"Authorization": {"Bearer " + strings.TrimSpace(token)}}}
	}
	got := sluice(t, env, "token", "--user", "ann")
	require.Equal(t, exitSuccess, got.code, got.err)
	user, err := authenticator.User(bearer(got.out))
	require.NoError(t, err)
	require.Equal(t, "ann", user)
	_, err = authenticator.Admin(bearer(got.out))
	require.ErrorIs(t, err, auth.ErrUnauthorized)

	var answer struct {
		Token, User string
		Admin       bool
		ExpiresAt   time.Time `json:"expires_at"`
	}
	require.NoError(t, json.Unmarshal([]byte(sluice(t, env, "token", "--user", "ops", "--admin", "--ttl", "90m",
		"--json").out), &answer))
	require.WithinDuration(t, time.Now().Add(90*time.Minute), answer.ExpiresAt, time.Minute)
	actor, err := authenticator.Admin(bearer(answer.Token))
	require.NoError(t, err)
	require.Equal(t, "ops", actor.Name)
}

func TestTokenNeedsASecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "auth.secret"},
		{[]string{"SLUICE_AUTH__SECRET=short"}, "auth.secret"},
		{[]string{"SLUICE_AUTH__PUBLIC_KEY_FILE=/k.pem"}, "only its issuer can sign"},
		{[]string{secretEnv, "SLUICE_AUTH__MODE=header"}, "auth.mode is header"},
	} {
		got := sluice(t, c.env, "token", "--user", "ann")
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, c.want)
		require.Empty(t, got.out)
	}
}

func TestConfigCheckShippedFiles(t *testing.T) {
	t.Parallel()
	env := []string{secretEnv, "SLUICE_REDIS__PASSWORD=p", "SLUICE_DATABASE__DSN=postgres://u:p@db:5432/sluice",
		"SLUICE_DATABASE__DRIVER=postgres"}
	for _, name := range []string{"embedded.yaml", "production.yaml", "limits.yaml"} {
		file := filepath.Join("..", "configs", name)
		require.Equal(t, outcome{exitSuccess, "the configuration is valid\n", ""},
			sluice(t, env, "config", "check", "--config", file))
		got := sluice(t, env[1:], "config", "check", "--config", file)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "auth.secret")
	}
}

func TestConfigCheckListsEverything(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("queue: {cap: many, capp: 1}\nlog: {level: loud}\n"), 0o600))
	got := sluice(t, []string{secretEnv}, "config", "check", "--config", file)
	require.Equal(t, exitFailure, got.code)
	require.Empty(t, got.out)
	for _, want := range []string{"queue.cap must be", "queue.capp", "log.level must be", file} {
		require.Contains(t, got.err, want)
	}
	got = sluice(t, []string{secretEnv}, "config", "check", "--config", file, "--json")
	require.Equal(t, exitFailure, got.code)
	var verdict struct {
		Valid  bool
		Errors []string
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &verdict))
	require.False(t, verdict.Valid)
	require.Len(t, verdict.Errors, 3)
	require.Equal(t, `{"errors":[],"valid":true}`+"\n", sluice(t, []string{secretEnv}, "config", "check", "--json").out)

	got = sluice(t, nil, "config", "check", "--config", file+".none")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, file+".none")
}

func TestConfigPrint(t *testing.T) {
	t.Parallel()
	got := sluice(t, []string{secretEnv}, "config", "print", "--set", "queue.cap=7")
	require.Equal(t, exitSuccess, got.code, got.err)
	require.NotContains(t, got.out, shop.Secret)
	require.Regexp(t, `(?m)^queue\.cap +7 +flag$`, got.out)
	require.Regexp(t, `(?m)^auth\.secret +"\*+" +env SLUICE_AUTH__SECRET$`, got.out)

	got = sluice(t, nil, "config", "print", "--json")
	require.Equal(t, exitSuccess, got.code, "what is missing does not hide what is there: %s", got.err)
	require.True(t, json.Valid([]byte(got.out)))
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := "--set=database.dsn=" + filepath.Join(t.TempDir(), "fresh", "sluice.db")
	status := func() (pending, applied int) {
		got := sluice(t, nil, "migrate", "status", "--json", dsn)
		require.Equal(t, exitSuccess, got.code, got.err)
		var list struct {
			Driver     string
			Migrations []struct {
				Version int64
				Pending bool
			}
		}
		require.NoError(t, json.Unmarshal([]byte(got.out), &list))
		require.Equal(t, "sqlite", list.Driver)
		for _, m := range list.Migrations {
			if m.Pending {
				pending++
			} else {
				applied++
			}
		}
		return pending, applied
	}
	pending, applied := status()
	require.Positive(t, pending)
	require.Zero(t, applied)
	require.Regexp(t, `^VERSION +NAME +APPLIED\n1 +0001_\w+ +pending\n`, sluice(t, nil, "migrate", "status", dsn).out)

	got := sluice(t, nil, "migrate", "up", dsn)
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Regexp(t, `^applied \d+ migrations\n$`, got.out)
	still, applied := status()
	require.Zero(t, still)
	require.Equal(t, pending, applied)
	require.Equal(t, `{"applied":0}`+"\n", sluice(t, nil, "migrate", "up", "--json", dsn).out)

	asked := []string{"migrate", "up", dsn, "--set", "redis.mode=single", "--set", "redis.addrs=127.0.0.1:1"}
	require.Empty(t, sluice(t, nil, asked...).err, "there is nothing to do, so nobody has to be asked")
	fresh := "--set=database.dsn=" + filepath.Join(t.TempDir(), "sluice.db")
	got = sluice(t, nil, append(asked, fresh)...)
	require.Equal(t, exitSuccess, got.code, got.err)
	require.Contains(t, got.err,
		"redis cannot be asked which processes run, so builds that do not tell their schema range are not seen: "+
			"redis (127.0.0.1:1): ")
	require.Contains(t, sluice(t, nil, "migrate", "status", dsn).out, "versions are noted in sluice_schema\n")

	theirs := filepath.Join(t.TempDir(), "shop.db")
	shop, err := store.Open(t.Context(), store.Config{Driver: store.SQLite, DSN: theirs, MaxConns: 1,
		TxTimeout: time.Second,
		Pooler:    store.PoolerAuto}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, shop.Write.Exec("CREATE TABLE customers (id BIGINT NOT NULL PRIMARY KEY)").Error)
	require.NoError(t, shop.Close())
	require.Contains(t, sluice(t, nil, "migrate", "status", "--set=database.dsn="+theirs).out,
		"refused: the database holds tables that are not Sluice's (customers): ")

	got = sluice(t, nil, "migrate", "up", "--set", "database.driver=postgres", "--set",
		"database.dsn=postgres://u:hidden@127.0.0.1:1/d")
	require.Equal(t, exitFailure, got.code)
	require.NotContains(t, got.err, "hidden")
	require.Empty(t, got.out)
}
