package stores

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"sluice/delay"
	"sluice/store/redis"
)

const (
	lookEvery = 500 * time.Millisecond
	lookLimit = time.Second     // for one look at a store that answered before
	openLimit = 5 * time.Second // for the checks of one that comes up
	downAfter = 2               // looks in a row that fail until a store counts as down: one may be a slow moment
	toldFor   = 30 * 24 * time.Hour
)

// one is one store.
type one struct {
	name       string
	prefix     string
	redis      *redis.Store
	durability *redis.Durability
	main       bool // it is the main Redis, which has watches of its own

	// These are used by the watch only.
	checked bool // it has passed the checks of Open
	tried   bool // this process has tried to tell that it is down
	alone   bool // and told so while the main Redis did not answer
	settled bool // nobody believes any more that it is down: not known at the start, as who told may have ended

	mu    sync.Mutex
	fails int   // looks in a row
	why   error // that it is down; nil: it is up
}

// gauges returns the metrics of the store.
func (o *one) gauges() []prometheus.Collector {
	labels := prometheus.Labels{"store": o.name}
	gauge := func(name, help string, good func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels},
			func() float64 {
				if good() {
					return 1
				}
				return 0
			})
	}
	return []prometheus.Collector{
		gauge("sluice_delay_store_up", "1 while the store of delayed messages answers, 0 while its topics wait.",
			func() bool { return o.down() == nil }),
		gauge("sluice_delay_store_durable",
			"1 when an added message survives the loss of the store's host, 0 when it may not.", func() bool {
				level := o.durability.Level()
				return o.durability.Check() == nil &&
					(level == redis.DurabilityAlways || level == redis.DurabilityReplicated)
			}),
	}
}

// down returns why the store is not to be asked; nil: it is.
func (o *one) down() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.why
}

// note takes over the outcome of a look, nil for an answer. It reports whether the store has just gone down or come up.
func (o *one) note(err error) (died, back bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.why
	if err == nil {
		o.fails, o.why = 0, nil
		return false, was != nil
	}
	if o.fails++; o.fails >= downAfter || !o.checked {
		o.why = fmt.Errorf("%w: %w", delay.ErrStoreDown, err)
	}
	return was == nil && o.why != nil, false
}

// look asks a store whether it answers, and one that was never checked whether it may be used.
func (s *Stores) look(ctx context.Context, o *one) {
	err := s.ask(ctx, o)
	if ctx.Err() != nil {
		return
	}
	died, back := o.note(err)
	switch {
	case died:
		s.Log.ErrorContext(ctx, "a store of delayed messages does not answer: its topics wait, others go on",
			"store", o.name, "error", err)
	case back:
		s.Log.InfoContext(ctx, "a store of delayed messages answers again", "store", o.name)
	}
	if s.Tell == nil || o.main {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if why := o.down(); why != nil {
		o.settled = false
		s.tellDown(ctx, o, why)
	} else if !o.settled {
		s.tellUp(ctx, o)
	}
}

func (s *Stores) ask(ctx context.Context, o *one) error {
	if o.checked {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		return o.redis.Ping(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if err := o.durability.Recheck(ctx); err != nil {
		return redis.InSection(s.Config.SectionOf(o.name), err)
	}
	if err := s.mine(ctx, o); err != nil {
		return err
	}
	o.checked = true
	return nil
}

// tellDown tells operators of a store that is down, once and unless another process has. The main Redis knows who has;
// while it does not answer, each process tells.
func (s *Stores) tellDown(ctx context.Context, o *one, why error) {
	if o.tried {
		return
	}
	o.tried = true
	err := s.Main.Client.SetArgs(ctx, s.toldKey(o), "1", goredis.SetArgs{Mode: "NX", TTL: toldFor}).Err()
	if errors.Is(err, goredis.Nil) {
		return
	}
	o.alone = err != nil
	s.Tell(o.name, why)
}

// tellUp tells operators of a store that is back, if they were told that it was down.
func (s *Stores) tellUp(ctx context.Context, o *one) {
	forgotten, err := s.Main.Client.Del(ctx, s.toldKey(o)).Result()
	if err != nil {
		return // the next look tries again
	}
	if forgotten > 0 || o.alone {
		s.Tell(o.name, nil)
	}
	o.tried, o.alone, o.settled = false, false, true
}

// toldKey is present while operators know that a store is down.
func (s *Stores) toldKey(o *one) string { return s.Prefix + ":delay-down:" + o.name }
