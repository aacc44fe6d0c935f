package redis

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// documented returns the rules of the ACL line for Redis in docs/operations.md, after the user's name.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, line, found := strings.Cut(string(text), "ACL SETUSER sluice ")
	require.True(t, found)
	line, _, _ = strings.Cut(line, "\n\n")
	return strings.Fields(strings.ReplaceAll(line, "\\\n", " "))
}

// grant gives the user shop these rules on the server at addr, with the password "pw".
func grant(t *testing.T, addr string, rules ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "shop", "reset"}
	for _, rule := range rules {
		if strings.HasPrefix(rule, ">") {
			rule = ">pw"
		}
		args = append(args, rule)
	}
	do(t, addr, args...)
}

func asShop(addr string) Config {
	cfg := singleConfig(addr)
	cfg.Username, cfg.Password = "shop", "pw"
	return cfg
}

// aclLog returns the calls that the server at addr has refused so far.
func aclLog(t *testing.T, addr string) any {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: addr})
	defer client.Close()
	log, err := client.Do(t.Context(), "ACL", "LOG").Slice()
	require.NoError(t, err)
	return log
}

func TestTheDocumentedLineIsEnoughAndNoMore(t *testing.T) {
	t.Parallel()
	rules := documented(t)
	addr := runRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	grant(t, addr, rules...)
	r := openRedis(t, asShop(addr))
	require.Equal(t, DurabilityAlways, r.Durability)
	require.Empty(t, aclLog(t, addr))

	cluster := Config{Mode: ModeCluster, Durability: DurabilityReplicated}
	allowed := map[string]bool{"+multi": true, "+exec": true, "+discard": true, "+config|get": true}
	for _, call := range callsFor(cluster) {
		allowed["+"+commandOf(call)] = true
	}
	var commands []string
	for _, rule := range rules {
		if strings.HasPrefix(rule, "+") {
			commands = append(commands, rule)
			require.True(t, allowed[rule], "%s is allowed and not in use", rule)
		}
	}
	require.Len(t, commands, len(allowed), "a command in use is not allowed")
	require.Contains(t, rules, "-@all")
	require.Contains(t, rules, "resetchannels")
}

func TestEachRightThatIsMissingIsNamedAtStart(t *testing.T) {
	t.Parallel()
	rules := documented(t)
	addr := runRedis(t)
	without := func(rule string) []string {
		return slices.DeleteFunc(slices.Clone(rules), func(r string) bool { return r == rule })
	}
	for _, rule := range rules {
		name, command := strings.CutPrefix(rule, "+")
		if !command ||
			slices.Contains(
				[]string{"info", "ping", "config|get", "wait", "cluster|slots", "command", "asking"},
				name,
			) {
			continue
		}
		grant(t, addr, without(rule)...)
		refuseRedis(t, asShop(addr), "the user of redis.username may not use", name)
	}
	// As ACL SETUSER leaves a user of Redis 7 who gets keys and no channels.
	grant(t, addr, without("&sluice:*")...)
	refuseRedis(
		t,
		asShop(addr),
		"the channels sluice:wake, sluice:status, sluice:stock",
		"run ACL SETUSER on it with &sluice:*",
	)
	grant(t, addr, append(without("&sluice:*"), "&sluice:wake", "&sluice:status")...)
	refuseRedis(t, asShop(addr), "the channels sluice:stock:")
	grant(t, addr, without("~sluice:*")...)
	refuseRedis(t, asShop(addr), "keys that begin with sluice:", "~sluice:*")
	grant(t, addr, without("+info")...)
	refuseRedis(t, asShop(addr), "the user needs +info")

	replicated := asShop(addr)
	replicated.Durability = DurabilityReplicated
	grant(t, addr, without("+wait")...)
	refuseRedis(t, replicated, "the commands wait")
}

// TestEveryCallInUseIsJudged checks the arity of each call. Redis refuses a wrong arity before it checks rights.
func TestEveryCallInUseIsJudged(t *testing.T) {
	t.Parallel()
	addr := runRedis(t)
	grant(t, addr, "on", ">", "resetkeys", "-@all", "+multi", "+discard", "+ping")
	client := goredis.NewClient(&goredis.Options{Addr: addr, Username: "shop", Password: "pw"})
	defer client.Close()
	all := Config{Mode: ModeCluster, Durability: DurabilityReplicated}
	var lack *RightsError
	require.ErrorAs(t, checkRights(t.Context(), client, all), &lack)
	for _, call := range callsFor(all) {
		if command := commandOf(call); command != "ping" {
			require.Contains(t, lack.Commands, command)
		}
	}
	require.Zero(t, goredis.NewClient(&goredis.Options{Addr: addr}).DBSize(t.Context()).Val(), "a probe has written")
}

var calledInScript = regexp.MustCompile(`(?:redis\.p?call|\bcall|in_chunks)\('([A-Z]+)'`)

// TestEveryCommandOfAScriptIsInUse checks the commands of all scripts, which run with the rights of the user.
func TestEveryCommandOfAScriptIsInUse(t *testing.T) {
	t.Parallel()
	var known []string
	for _, call := range callsFor(Config{}) {
		known = append(known, commandOf(call))
	}
	scripts := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".lua" {
			return err
		}
		scripts++
		text, err := os.ReadFile(path)
		for _, match := range calledInScript.FindAllStringSubmatch(string(text), -1) {
			require.Contains(t, known, strings.ToLower(match[1]), path)
		}
		return err
	}))
	require.Greater(t, scripts, 40, "the scripts are somewhere else")
}

func TestRightsLostWhileRunningAreToldAndComeBack(t *testing.T) {
	t.Parallel()
	rules := documented(t)
	addr := runRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	grant(t, addr, rules...)
	cfg := asShop(addr)
	r := openRedis(t, cfg)
	log, said := newTestLog()
	p := NewDurability(r, cfg, log, prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	require.NoError(t, p.Check())
	for _, lost := range []struct{ rule, back, told string }{
		{"-info", "+info", "the user needs +info"},
		{"-publish", "+publish", "the commands publish"},
		{"resetchannels", "&sluice:*", "the channels sluice:wake"},
	} {
		do(t, addr, "ACL", "SETUSER", "shop", lost.rule)
		require.Eventually(t, func() bool { return p.Check() != nil }, 20*time.Second, 20*time.Millisecond, lost.rule)
		require.ErrorIs(t, p.Check(), ErrNotDurable)
		require.ErrorContains(t, p.Check(), lost.told)
		do(t, addr, "ACL", "SETUSER", "shop", lost.back)
		require.Eventually(t, func() bool { return p.Check() == nil }, 20*time.Second, 20*time.Millisecond, lost.rule)
	}
	require.Equal(t, 3, strings.Count(said.String(), "redis refuses what Sluice needs"), said.String())
}
