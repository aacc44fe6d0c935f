package delay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"sluice/internal/invalid"
	"sluice/store/redis"
)

// DefaultStore names the store of topics that choose none: delay.redis, or else the main Redis.
const DefaultStore = "default"

// maxStores is how many stores delay.stores may name.
const maxStores = 16

// defaultRedis returns the values of delay.redis where it is not set: then the main Redis keeps messages.
func defaultRedis() redis.Config {
	cfg := redis.DefaultConfig()
	cfg.Mode, cfg.Dir = "", "data/redis-delay"
	return cfg
}

// OwnRedis reports whether delay.redis names another Redis than the main one.
func (c Config) OwnRedis() bool { return c.Redis.Mode != "" || len(c.Redis.Addrs) > 0 }

// StoreConfigs returns how to reach each store beside the main Redis, by name. What is not set has its default.
func (c Config) StoreConfigs() map[string]redis.Config {
	all := make(map[string]redis.Config, len(c.Stores)+1)
	for name, one := range c.Stores {
		all[name] = withDefaults(one, "data/redis-"+name)
	}
	if c.OwnRedis() {
		all[DefaultStore] = withDefaults(c.Redis, defaultRedis().Dir)
	}
	return all
}

func withDefaults(c redis.Config, dir string) redis.Config {
	d := redis.DefaultConfig()
	c.Mode, c.Prefix, c.Dir = cmp.Or(c.Mode, redis.ModeAuto), cmp.Or(c.Prefix, d.Prefix), cmp.Or(c.Dir, dir)
	c.DialTimeout, c.Timeout = cmp.Or(c.DialTimeout, d.DialTimeout), cmp.Or(c.Timeout, d.Timeout)
	c.Durability, c.Replicas = cmp.Or(c.Durability, d.Durability), cmp.Or(c.Replicas, d.Replicas)
	c.ReplicaTimeout = cmp.Or(c.ReplicaTimeout, d.ReplicaTimeout)
	return c
}

// SectionOf names the section of the configuration that says how to reach a store.
func (c Config) SectionOf(store string) string {
	switch {
	case store != DefaultStore:
		return "delay.stores." + store
	case c.OwnRedis():
		return "delay.redis"
	}
	return "redis"
}

// validateStores returns every bad value of delay.redis and delay.stores.
func (c Config) validateStores() error {
	var errs []error
	unset := c.Redis
	unset.Addrs = defaultRedis().Addrs
	if !c.OwnRedis() && !reflect.DeepEqual(c.Redis, redis.Config{}) && !reflect.DeepEqual(unset, defaultRedis()) {
		errs = append(errs, errors.New("delay.redis.mode or delay.redis.addrs must be set when another key of "+
			"delay.redis is"))
	}
	if len(c.Stores) > maxStores {
		errs = append(errs, fmt.Errorf("delay.stores: %d are too many, use at most %d", len(c.Stores), maxStores))
	}
	all := c.StoreConfigs()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one := c.Stores[name]
		switch {
		case name != DefaultStore && (!invalid.Name(name, 32, "-_")):
			errs = append(errs, fmt.Errorf("delay.stores: a name must be 1 to 32 letters, digits, '-' or '_', got %q",
				name))
		case name != DefaultStore && one.Mode == "" && len(one.Addrs) == 0:
			errs = append(errs, fmt.Errorf("delay.stores.%s.addrs must be set, or mode", name))
		}
		errs = append(errs, redis.InSection(c.SectionOf(name), all[name].Validate()))
	}
	if _, taken := c.Stores[DefaultStore]; taken {
		errs = append(errs, errors.New("delay.stores.default: this name is kept for delay.redis"))
	}
	return errors.Join(errs...)
}

// StoreNames returns the names of all stores, the default first.
func (c Config) StoreNames() []string {
	return append([]string{DefaultStore}, slices.Sorted(maps.Keys(c.Stores))...)
}
