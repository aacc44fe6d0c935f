package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// DurabilityReplicated is a write that redis.replicas replicas have
// acknowledged; DurabilityAuto takes Redis as it is found.
const (
	DurabilityReplicated = "replicated"
	DurabilityAuto       = "auto"
)

// ErrNotDurable says that Redis does not keep what a 202 promises.
var ErrNotDurable = errors.New("redis is less durable than redis.durability asks for")

// promiseEvery is how often the durability of Redis is looked at again.
const promiseEvery = 2 * time.Second

// Promise holds Redis to the durability that the configuration asks for:
// nothing is admitted while Redis keeps less. Safe for concurrent use.
type Promise struct {
	redis *Redis
	cfg   RedisConfig
	log   *slog.Logger
	level atomic.Pointer[string]
	// replicas online at the last look
	replicas atomic.Int64
	// refused is why Redis did not let itself be looked at, or work be done; nil: it did
	refused atomic.Pointer[error]
}

// NewPromise watches a Redis that OpenRedis has found durable enough.
func NewPromise(r *Redis, cfg RedisConfig, log *slog.Logger, reg prometheus.Registerer) *Promise {
	p := &Promise{redis: r, cfg: cfg, log: log}
	p.level.Store(&r.Durability)
	p.replicas.Store(int64(r.replicas))
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_redis_durable",
		Help: "1 when an admitted order survives the loss of the Redis host, 0 when it may not."}, func() float64 {
		if l := p.Level(); p.Kept() == nil && (l == DurabilityAlways || l == DurabilityReplicated) {
			return 1
		}
		return 0
	}))
	for _, level := range []string{DurabilityMemory, DurabilityNone, DurabilityUnknown, DurabilityEverySec, DurabilityAlways, DurabilityReplicated} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_redis_durability", ConstLabels: prometheus.Labels{"level": level},
			Help: "1 at the level Redis was found to keep at the last look, 0 at the others."}, func() float64 {
			if p.Level() == level {
				return 1
			}
			return 0
		}))
	}
	return p
}

// Level is what Redis was found to keep at the last look, one of the
// Durability constants.
func (p *Promise) Level() string {
	if p.cfg.Durability == DurabilityReplicated && p.missing() == nil {
		return DurabilityReplicated
	}
	return *p.level.Load()
}

// Kept returns an error that wraps ErrNotDurable while Redis keeps less than
// is asked for. That replicas are online is no more than a good sign: each
// admission waits for their word.
func (p *Promise) Kept() error {
	if refused := p.refused.Load(); refused != nil && *refused != nil {
		return fmt.Errorf("%w: what it keeps is not known: %w", ErrNotDurable, *refused)
	}
	if p.cfg.Durability == DurabilityReplicated {
		return p.missing()
	}
	return p.cfg.suffices(*p.level.Load())
}

func (p *Promise) missing() error {
	if n := p.replicas.Load(); n < int64(p.cfg.Replicas) {
		return fmt.Errorf("%w: %d of %d replicas are online", ErrNotDurable, n, p.cfg.Replicas)
	}
	return nil
}

// suffices compares what Redis keeps with what is asked for.
func (c RedisConfig) suffices(level string) error {
	if c.Durability == DurabilityAuto || c.Durability == DurabilityReplicated || rank(level) >= rank(c.Durability) {
		return nil
	}
	return fmt.Errorf("%w: it is %s, not %s: %s", ErrNotDurable, level, c.Durability, durabilityRisk(level))
}

// Run looks at Redis again and again until ctx ends: an operator may change
// its settings or its users' rights, and a failover may lead to a server with others.
func (p *Promise) Run(ctx context.Context) {
	cfg := p.cfg
	cfg.Mode = p.redis.Mode
	if cfg.Mode == ModeEmbedded {
		<-ctx.Done()
		return
	}
	for sleep(ctx, promiseEvery) == nil {
		now := Redis{Client: p.redis.Client, Mode: p.redis.Mode}
		call, cancel := context.WithTimeout(ctx, p.cfg.Timeout+promiseEvery)
		looks, err := now.lookAtAll(call, cfg)
		cancel()
		if err == nil && ctx.Err() == nil {
			p.learn(&now, looks)
		}
	}
}

// learn notes what the masters that answered were found to be. One that is away or being failed over is left out: the
// calls to it fail by themselves, and those to the others must not.
func (p *Promise) learn(now *Redis, looks []look) {
	var answered []look
	var refused error
	for _, one := range looks {
		switch {
		case one.err == nil:
			answered = append(answered, one)
		case refusesRights(one.err):
			refused = one.failed()
		}
	}
	p.note(refused)
	if len(answered) == 0 {
		return
	}
	now.weakest(answered)
	p.replicas.Store(int64(now.replicas))
	if was := *p.level.Load(); was != now.Durability {
		p.log.Warn("durability of redis has changed", "was", was, "is", now.Durability, "asked", p.cfg.Durability)
		p.level.Store(&now.Durability)
	}
}

// note remembers a refusal, and logs when it begins and ends.
func (p *Promise) note(refused error) {
	was := p.refused.Swap(&refused)
	began, ended := refused != nil && (was == nil || *was == nil), refused == nil && was != nil && *was != nil
	switch {
	case began:
		p.log.Error("redis refuses what Sluice needs", "error", refused)
	case ended:
		p.log.Info("redis allows again what Sluice needs")
	}
}

// refusesRights reports whether Redis answered, and does not let this user look or work.
func refusesRights(err error) bool {
	var rights *RightsError
	if errors.As(err, &rights) {
		return true
	}
	for _, code := range []string{"NOPERM", "NOAUTH", "WRONGPASS"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

// acks is how many replicas must have a write before it is answered.
func (p *Promise) acks() int {
	if p == nil || p.cfg.Durability != DurabilityReplicated {
		return 0
	}
	return p.cfg.Replicas
}

// Promising returns the same lines, admitting only what p can keep.
func (ls *Lines) Promising(p *Promise) *Lines {
	promising := *ls
	promising.promise = p
	return &promising
}

// kept returns ErrNotReady while Redis keeps less than is promised.
func (ls *Lines) kept() error {
	if ls.promise == nil {
		return nil
	}
	if err := ls.promise.Kept(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// durably calls a script so that its effect is as durable as promised
// when it returns. The counter is written even when the script wrote nothing:
// WAIT speaks of this connection's last write only, and an answer may repeat
// what another connection wrote.
func (l *Line) durably(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	if err := l.kept(); err != nil {
		return nil, err
	}
	n := l.promise.acks()
	if n == 0 {
		return s.run(ctx, l.rdb, keys, args...)
	}
	node, err := l.node(ctx)
	if err != nil {
		return nil, err
	}
	reply, acknowledged := l.acknowledge(ctx, node, s.sha, keys, args, n)
	if redis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
		if err := node.ScriptLoad(ctx, s.source).Err(); err != nil {
			return nil, s.failed(err, keys[0])
		}
		reply, acknowledged = l.acknowledge(ctx, node, s.sha, keys, args, n)
	}
	answer, err := reply.Result()
	if err != nil {
		return nil, s.failed(err, keys[0])
	}
	got, err := acknowledged.Int64()
	if err != nil {
		return nil, fmt.Errorf("wait for the replicas of %s: %w", keys[0], err)
	}
	if got < int64(n) {
		return nil, fmt.Errorf("%w: %d of %d replicas acknowledged within %s", ErrNotReady, got, n, l.promise.cfg.ReplicaTimeout)
	}
	return answer, nil
}

// acknowledge calls a script and waits for the word of n replicas, in one round trip.
func (l *Line) acknowledge(
	ctx context.Context, node redis.UniversalClient, sha string, keys []string, args []any, n int,
) (reply, acknowledged *redis.Cmd) {
	pipe := node.Pipeline()
	reply = pipe.EvalSha(ctx, sha, keys, args...)
	pipe.HIncrBy(ctx, l.keys.meta, "waited", 1)
	acknowledged = pipe.Do(ctx, "WAIT", n, l.promise.cfg.ReplicaTimeout.Milliseconds())
	_, _ = pipe.Exec(ctx) // each command has its own error
	return reply, acknowledged
}

// node is the one server that holds this line: WAIT names no key, so a
// cluster client would send it anywhere.
func (l *Line) node(ctx context.Context) (redis.UniversalClient, error) {
	cluster, ok := l.rdb.(*redis.ClusterClient)
	if !ok {
		return l.rdb, nil
	}
	master, err := cluster.MasterForKey(ctx, l.keys.meta)
	if err != nil {
		return nil, fmt.Errorf("find the master of %s: %w", l.keys.meta, err)
	}
	return master, nil
}
