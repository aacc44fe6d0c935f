package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/store/redis"
)

func TestStoresOfDelayedMessages(t *testing.T) {
	t.Parallel()
	inFile := file(`delay: {redis: {addrs: [r:1], durability: always},
  stores: {bulk: {addrs: [a:1, b:2], mode: cluster, password: hush, timeout: 3s,
    tls: {enabled: true}}, mem: {mode: embedded}}}`)
	asFile := filepath.Join(t.TempDir(), "stores")
	require.NoError(t, os.WriteFile(asFile, []byte("bulk.addrs=a:1,b:2,bulk.mode=cluster,bulk.password=hush,"+
		"bulk.timeout=3s,bulk.tls.enabled=true,mem.mode=embedded\n"), 0o600))
	inEnv := file("delay: {redis: {addrs: [r:1], durability: always}}")
	inEnv.Env = withSecret("SLUICE_DELAY__STORES_FILE=" + asFile)
	for _, opts := range []Options{inFile, inEnv} {
		l, err := Load(opts)
		require.NoError(t, err)
		require.Equal(t, []string{"default", "bulk", "mem"}, l.Config.Delay.StoreNames())
		all := l.Config.Delay.StoreConfigs()
		bulk := redis.DefaultConfig()
		bulk.Mode, bulk.Addrs, bulk.Password, bulk.Timeout = "cluster", []string{"a:1", "b:2"}, "hush", 3*time.Second
		bulk.TLS.Enabled, bulk.Dir = true, "data/redis-bulk"
		require.Equal(t, bulk, all["bulk"])
		require.Equal(t, redis.ModeEmbedded, all["mem"].Mode)
		require.Equal(t, redis.ModeAuto, all[delay.DefaultStore].Mode)
		require.Equal(t, redis.DurabilityAlways, all[delay.DefaultStore].Durability)
		for _, asJSON := range []bool{true, false} {
			var out bytes.Buffer
			require.NoError(t, l.Print(&out, asJSON))
			require.NotContains(t, out.String(), "hush")
			require.Contains(t, out.String(), "cluster")
		}
	}
	l, err := Load(file("delay: {batch: 7}"))
	require.NoError(t, err)
	require.Empty(t, l.Config.Delay.StoreConfigs(), "messages stay in the main Redis")
}

func TestBadStoresAreNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`redis: {durability: always}`:                              "delay.redis.mode or delay.redis.addrs must be set",
		`redis: {addrs: [nowhere]}`:                                "delay.redis.addrs must hold host:port",
		`stores: {bulk: {}}`:                                       "delay.stores.bulk.addrs must be set, or mode",
		`stores: {bulk: {addrs: [a:1, b:2]}}`:                      "bulk.mode must be sentinel or cluster",
		`stores: {bulk: {addrs: [a:1], durability: never}}`:        "delay.stores.bulk.durability must be one of",
		`stores: {bulk: {mode: embedded, durability: replicated}}`: "which delay.stores.bulk.mode embedded has not",
		`stores: {default: {addrs: [a:1]}}`:                        "kept for delay.redis",
		`stores: {"a b": {addrs: [a:1]}}`:                          "a name must be 1 to 32 letters",
		`stores: {bulk: {adrs: [a:1]}}`:                            "a section of sections with the keys",
	} {
		_, err := Load(file("delay: {" + text + "}"))
		require.ErrorContains(t, err, want)
	}
}
