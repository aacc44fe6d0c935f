package stores_test

import (
	"context"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/delay/stores"
	"sluice/internal/testkit"
	"sluice/internal/testkit/tables"
	"sluice/internal/testkit/topics"
	"sluice/store/redis"
)

// shop is topics in several stores, beside a main Redis.
type shop struct {
	*topics.World
	t        *testing.T
	main     *testkit.RedisServer
	mainOpen *redis.Store
	durable  *redis.Durability
	reg      *prometheus.Registry

	mu   sync.Mutex
	told []string
}

// newShop opens stores and the main Redis, which keeps the messages of topics that choose none. They are watched until
// the test ends.
func newShop(t *testing.T, named map[string]redis.Config, edits ...func(*delay.Config)) *shop {
	t.Helper()
	s := &shop{t: t, main: testkit.Redis(t)}
	cfg := topics.Config()
	cfg.Stores = named
	for _, edit := range edits {
		edit(&cfg)
	}
	require.NoError(t, cfg.Validate())
	s.World = topics.New(t, s.main.Addr(), tables.New(t, "sqlite"), cfg)
	main := at(s.main)
	opened, err := redis.Open(t.Context(), main, topics.Quiet())
	require.NoError(t, err)
	t.Cleanup(func() { _ = opened.Close() })
	s.mainOpen, s.durable = opened, redis.NewDurability(opened, main, topics.Quiet(), nil)
	var places map[string]message.Place
	s.reg, places = s.process()
	s.UseStores(places)
	return s
}

// at returns how to reach a server.
func at(server *testkit.RedisServer) redis.Config {
	cfg := redis.DefaultConfig()
	cfg.Mode, cfg.Addrs = redis.ModeSingle, []string{server.Addr()}
	return cfg
}

func (s *shop) parts(reg *prometheus.Registry) stores.Parts {
	return stores.Parts{Config: s.Config, Main: s.mainOpen, Durability: s.durable, Prefix: "sluice", Tell: s.tell,
		Log: topics.Quiet(), Registry: reg}
}

// process opens the stores as one process does, and watches them.
func (s *shop) process() (*prometheus.Registry, map[string]message.Place) {
	s.t.Helper()
	reg := prometheus.NewRegistry()
	all, err := stores.Open(s.t.Context(), s.parts(reg))
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-done
		_ = all.Close()
	})
	return reg, all.Places()
}

// tell notes what operators are told.
func (s *shop) tell(store string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why == nil {
		s.told = append(s.told, store+" up")
		return
	}
	s.told = append(s.told, store+" down")
}

func (s *shop) isTold() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.told...)
}

// awaitUp waits until the gauge of a store says that it is up, or down.
func (s *shop) awaitUp(reg *prometheus.Registry, store string, want float64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.Value(reg, "sluice_delay_store_up", store) == want },
		topics.Patience, topics.Look)
}
