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

// What a configuration may ask for beside the levels.
const (
	DurabilityReplicated = "replicated" // redis.replicas replicas have acknowledged the write
	DurabilityAuto       = "auto"       // Redis is taken as it is found
)

// What survives when Redis dies, weakest first.
const (
	DurabilityMemory   = "memory"   // nothing: it lives in this process
	DurabilityNone     = "none"     // at best the last snapshot, or what the system happened to flush
	DurabilityUnknown  = "unknown"  // an append-only file is written, but the server does not say when it is synced
	DurabilityEverySec = "everysec" // a killed server loses nothing, a lost host about two seconds
	DurabilityAlways   = "always"   // every answered write
)

// rank returns the place of a level among all, from the weakest.
func rank(level string) int { return slices.Index(levels(), level) }

// levels lists what Redis can be found to keep, the weakest first.
func levels() []string {
	return []string{DurabilityMemory, DurabilityNone, DurabilityUnknown, DurabilityEverySec, DurabilityAlways}
}

// riskOf says what may be lost at a level.
func riskOf(level string) string {
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

// ErrNotDurable says that Redis keeps less than redis.durability asks for.
var ErrNotDurable = errors.New("redis is less durable than redis.durability asks for")

// watchEvery is the time between two checks of a Redis in use.
const watchEvery = 2 * time.Second

// Durability watches whether Redis keeps what redis.durability asks for. While
// it keeps less, nothing may be admitted. Safe for concurrent use.
type Durability struct {
	redis    *Store
	cfg      Config
	log      *slog.Logger
	level    atomic.Pointer[string]
	replicas atomic.Int64          // online at the last check
	refused  atomic.Pointer[error] // why Redis refused a check, or calls that are needed; nil: it did not
}

// NewDurability returns a watch over a Redis that Open has found durable enough.
func NewDurability(r *Store, cfg Config, log *slog.Logger, reg prometheus.Registerer) *Durability {
	d := &Durability{redis: r, cfg: cfg, log: log}
	d.level.Store(&r.Durability)
	d.replicas.Store(int64(r.replicas))
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

// Level returns what Redis was found to keep at the last check, one of the
// Durability constants.
func (d *Durability) Level() string {
	if d.cfg.Durability == DurabilityReplicated && d.missing() == nil {
		return DurabilityReplicated
	}
	return *d.level.Load()
}

// Check returns an error that wraps ErrNotDurable while Redis keeps less than
// is asked for. Replicas that are online promise nothing yet: each admission
// waits for their acknowledgement.
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

// suffices compares what Redis keeps with what is asked for.
func (c Config) suffices(level string) error {
	if c.Durability == DurabilityAuto || c.Durability == DurabilityReplicated || rank(level) >= rank(c.Durability) {
		return nil
	}
	return fmt.Errorf("%w: it is %s, not %s: %s", ErrNotDurable, level, c.Durability, riskOf(level))
}

// Run checks Redis again and again until ctx ends. An operator may change its
// settings or its users' rights, and a failover leads to a server with others.
func (d *Durability) Run(ctx context.Context) {
	cfg := d.cfg
	cfg.Mode = d.redis.Mode
	if cfg.Mode == ModeEmbedded {
		<-ctx.Done()
		return
	}
	for sleep(ctx, watchEvery) == nil {
		now := Store{Client: d.redis.Client, Mode: d.redis.Mode}
		call, cancel := context.WithTimeout(ctx, d.cfg.Timeout+watchEvery)
		found, err := now.checkAll(call, cfg)
		cancel()
		if err == nil && ctx.Err() == nil {
			d.learn(&now, found)
		}
	}
}

// learn notes what the masters that answered were found to be. One that is away
// is left out: the calls to it fail by themselves, and those to others must not.
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

// note remembers a refusal, and logs when it begins and ends.
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

// refusesRights reports whether Redis answered, and does not let this user look or work.
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

// Acks returns how many replicas must have a write before it is answered, and
// for how long to wait for them. It returns 0 for a nil d.
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
