package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
)

// Values of redis.durability that are not levels.
const (
	DurabilityReplicated = "replicated" // redis.replicas replicas have acknowledged the write
	DurabilityAuto       = "auto"       // any level is accepted
)

// The levels: what survives when Redis dies, weakest first.
const (
	DurabilityMemory   = "memory"   // nothing: it lives in this process
	DurabilityNone     = "none"     // at best the last snapshot, or what the system has flushed
	DurabilityUnknown  = "unknown"  // an append-only file is written, but the server does not say when it is synced
	DurabilityEverySec = "everysec" // a killed server loses nothing, a lost host about two seconds
	DurabilityAlways   = "always"   // every answered write
)

// rank returns the index of a level in levels.
func rank(level string) int { return slices.Index(levels(), level) }

// levels returns all levels of durability, the weakest first.
func levels() []string {
	return []string{DurabilityMemory, DurabilityNone, DurabilityUnknown, DurabilityEverySec, DurabilityAlways}
}

// describeRisk says what may be lost at a level.
func describeRisk(level string) string {
	switch level {
	case DurabilityMemory:
		return "waiting orders are lost when this process ends"
	case DurabilityEverySec:
		return "a lost host takes about two seconds of admitted orders with it; set appendfsync always"
	case DurabilityUnknown:
		return "the server does not tell its appendfsync; orders of the last seconds may be lost with its host"
	}
	return "waiting orders can be lost when Redis stops; set appendonly yes and appendfsync always"
}

// ErrNotDurable says that Redis is less durable than redis.durability asks for.
var ErrNotDurable = errors.New("redis is less durable than redis.durability asks for")

// checkEvery is the time between two checks of a Redis in use.
const checkEvery = 2 * time.Second

// Durability watches whether Redis is as durable as redis.durability asks for. While it is not, nothing may be
// admitted. Safe for concurrent use.
type Durability struct {
	redis    *Store
	cfg      Config
	log      *slog.Logger
	level    atomic.Pointer[string]
	replicas atomic.Int64          // online at the last check
	refused  atomic.Pointer[error] // why Redis refused a check or needed calls; nil: it did not
}

// NewDurability returns a Durability for a Redis that Open has found durable enough. reg nil: it has no metrics.
func NewDurability(r *Store, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Durability {
	d := &Durability{redis: r, cfg: cfg, log: log}
	d.level.Store(&r.Durability)
	d.replicas.Store(int64(r.replicas))
	if reg == nil {
		return d
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_redis_durable",
		Help: "1 when an admitted order survives the loss of the Redis host, 0 when it may not."}, func() float64 {
		if l := d.Level(); d.Check() == nil && (l == DurabilityAlways || l == DurabilityReplicated) {
			return 1
		}
		return 0
	}))
	for _, level := range append(levels(), DurabilityReplicated) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_redis_durability", ConstLabels: prometheus.Labels{"level": level},
			Help: "1 at the level Redis was found to keep at the last look, 0 at the others."}, func() float64 {
			if d.Level() == level {
				return 1
			}
			return 0
		}))
	}
	return d
}

// Level returns the durability that the last check found, one of the Durability constants.
func (d *Durability) Level() string {
	if d.cfg.Durability == DurabilityReplicated && d.missing() == nil {
		return DurabilityReplicated
	}
	return *d.level.Load()
}

// Check returns an error that wraps ErrNotDurable while Redis is less durable than asked for. Online replicas do not
// suffice: each admission waits for their acknowledgement.
func (d *Durability) Check() error {
	if refused := d.refused.Load(); refused != nil && *refused != nil {
		return fmt.Errorf("%w: what it keeps is not known: %w", ErrNotDurable, *refused)
	}
	if d.cfg.Durability == DurabilityReplicated {
		return d.missing()
	}
	return d.cfg.suffices(*d.level.Load())
}

// missing returns an error while too few replicas are online.
func (d *Durability) missing() error {
	if n := d.replicas.Load(); n < int64(d.cfg.Replicas) {
		return fmt.Errorf("%w: %d of %d replicas are online", ErrNotDurable, n, d.cfg.Replicas)
	}
	return nil
}

// suffices returns an error if level is less than redis.durability asks for.
func (c Config) suffices(level string) error {
	if c.Durability == DurabilityAuto || c.Durability == DurabilityReplicated || rank(level) >= rank(c.Durability) {
		return nil
	}
	return fmt.Errorf("%w: it is %s, not %s: %s", ErrNotDurable, level, c.Durability, describeRisk(level))
}

// Run checks Redis regularly until ctx ends. Its settings and its users' rights may change, also by a failover.
func (d *Durability) Run(ctx context.Context) {
	cfg := d.cfg
	cfg.Mode = d.redis.Mode
	if cfg.Mode == ModeEmbedded {
		<-ctx.Done()
		return
	}
	for sleep(ctx, checkEvery) == nil {
		now := Store{Client: d.redis.Client, Mode: d.redis.Mode}
		call, cancel := context.WithTimeout(ctx, d.cfg.Timeout+checkEvery)
		found, err := now.checkAll(call, cfg)
		cancel()
		if err == nil && ctx.Err() == nil {
			d.learn(&now, found)
		}
	}
}

// learn takes over the findings of the masters that answered. A master that is away is ignored: calls to it fail
// anyway, and calls to others must not.
func (d *Durability) learn(now *Store, found []finding) {
	var answered []finding
	var refused error
	for _, one := range found {
		switch {
		case one.err == nil:
			answered = append(answered, one)
		case refusesRights(one.err):
			refused = one.problem()
		}
	}
	d.note(refused)
	if len(answered) == 0 {
		return
	}
	now.weakest(answered)
	d.replicas.Store(int64(now.replicas))
	if was := *d.level.Load(); was != now.Durability {
		d.log.Warn("durability of redis has changed", "was", was, "is", now.Durability, "asked", d.cfg.Durability)
		d.level.Store(&now.Durability)
	}
}

// note remembers a refusal and logs its beginning and end.
func (d *Durability) note(refused error) {
	was := d.refused.Swap(&refused)
	began, ended := refused != nil && (was == nil || *was == nil), refused == nil && was != nil && *was != nil
	switch {
	case began:
		d.log.Error("redis refuses what Sluice needs", "error", refused)
	case ended:
		d.log.Info("redis allows again what Sluice needs")
	}
}

// refusesRights reports whether Redis answered that this user lacks rights.
func refusesRights(err error) bool {
	var rights *RightsError
	if errors.As(err, &rights) {
		return true
	}
	for _, code := range []string{"NOPERM", "NOAUTH", "WRONGPASS"} {
		if goredis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// Acks returns how many replicas must have a write before it is answered, and how long to wait for them. It returns 0
// for a nil d.
func (d *Durability) Acks() (replicas int, limit time.Duration) {
	if d == nil || d.cfg.Durability != DurabilityReplicated {
		return 0, 0
	}
	return d.cfg.Replicas, d.cfg.ReplicaTimeout
}

// sleep waits for d, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
