// Package stores opens the Redis that keep delayed messages, and watches whether each answers. One that does not
// concerns its topics only, at the start of a process, too.
package stores

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
	"sluice/store/redis"
)

// Parts is what Open needs.
type Parts struct {
	Config delay.Config // validated
	// Main is the Redis of the stock. It keeps the messages of topics that choose no store, unless Config.OwnRedis.
	Main       *redis.Store
	Durability *redis.Durability // of Main
	Prefix     string            // of Main
	// Mine returns an error where the keys behind a prefix belong to another installation. nil: they never do.
	Mine func(ctx context.Context, rdb goredis.UniversalClient, prefix string) error
	// Tell is called once for all processes when a store no longer answers, and when it does again: then why is nil. It
	// must not block. nil: this process tells nobody.
	Tell     func(store string, why error)
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Stores are the open Redis of all stores. Safe for concurrent use.
type Stores struct {
	Parts
	all []*one // by name
}

// Open opens the Redis of every store. One that does not answer is opened later, by Run. One that could lose messages,
// belongs to another installation or is configured wrongly is an error.
func Open(ctx context.Context, p Parts) (*Stores, error) {
	s := &Stores{Parts: p}
	configs := p.Config.StoreConfigs()
	if !p.Config.OwnRedis() {
		s.all = append(s.all, &one{name: delay.DefaultStore, prefix: p.Prefix, redis: p.Main, durability: p.Durability,
			main: true, checked: true})
	}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		o, err := s.open(ctx, name, configs[name])
		if err != nil {
			err = redis.InSection(p.Config.SectionOf(name), err)
			return nil, errors.Join(fmt.Errorf("store %s of delayed messages: %w", name, err), s.Close())
		}
		s.all = append(s.all, o)
	}
	for _, o := range s.all {
		p.Registry.MustRegister(o.gauges()...)
	}
	return s, nil
}

func (s *Stores) open(ctx context.Context, name string, cfg redis.Config) (*one, error) {
	log := s.Log.With("store", name)
	opened, away, err := redis.OpenLater(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	o := &one{name: name, prefix: cfg.Prefix, redis: opened, durability: redis.NewDurability(opened, cfg, log, nil)}
	if away == nil {
		away = s.mine(ctx, o)
		if away == nil {
			o.checked = true
			return o, nil
		}
		if !redis.Unavailable(away) {
			return nil, errors.Join(away, opened.Close())
		}
	}
	o.note(away)
	log.WarnContext(ctx, "a store of delayed messages does not answer: its topics wait, others go on", "error", away)
	return o, nil
}

func (s *Stores) mine(ctx context.Context, o *one) error {
	if s.Mine == nil {
		return nil
	}
	return s.Mine(ctx, o.redis.Client, o.prefix)
}

// Places returns where messages are kept, by the name of the store.
func (s *Stores) Places() map[string]message.Place {
	places := make(map[string]message.Place, len(s.all))
	for _, o := range s.all {
		at := message.Place{Redis: o.redis.Client, Prefix: o.prefix, Durable: o.durability.Check,
			Acks: o.durability.Acks}
		if !o.main { // the main Redis has watches of its own
			at.Up = o.down
		}
		places[o.name] = at
	}
	return places
}

// Note says in a few words which stores answer.
func (s *Stores) Note() string {
	said := make([]string, len(s.all))
	for i, o := range s.all {
		said[i] = o.name + " up"
		if err := o.down(); err != nil {
			said[i] = fmt.Sprintf("%s down: %v", o.name, err)
		}
	}
	return strings.Join(said, ", ")
}

// Private returns the names of stores whose Redis runs inside or below this process.
func (s *Stores) Private() (names []string) {
	for _, o := range s.all {
		if !o.main && (o.redis.Mode == redis.ModeEmbedded || o.redis.Mode == redis.ModeManaged) {
			names = append(names, o.name)
		}
	}
	return names
}

// Run watches the stores until ctx ends.
func (s *Stores) Run(ctx context.Context) {
	var watches sync.WaitGroup
	for _, o := range s.all {
		watches.Go(func() { s.watch(ctx, o) })
		if !o.main {
			watches.Go(func() { o.durability.Run(ctx) })
		}
	}
	watches.Wait()
}

// watch looks at a store again and again. A panic ends no watch.
func (s *Stores) watch(ctx context.Context, o *one) {
	for ctx.Err() == nil {
		if err := apart.Try(func() error { s.look(ctx, o); return nil }); err != nil {
			s.Log.ErrorContext(ctx, "watching a store of delayed messages panicked", "store", o.name, "error", err)
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// Close closes the connections, those of the main Redis aside. It stops the servers that Open started.
func (s *Stores) Close() error {
	var errs []error
	for _, o := range s.all {
		if !o.main {
			errs = append(errs, o.redis.Close())
		}
	}
	return errors.Join(errs...)
}
