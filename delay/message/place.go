package message

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/delay"
	"sluice/internal/apart"
	"sluice/internal/luascript"
)

// Place is a Redis that keeps messages, one of the stores that topics choose.
type Place struct {
	Redis  redis.UniversalClient // not used before the first call, and never closed
	Prefix string                // begins every key
	// Durable is called before messages are added: an error refuses them. nil: it is always durable enough.
	Durable func() error
	// Acks returns how many replicas must have a write before it is answered, and how long to wait. nil: none.
	Acks func() (replicas int, limit time.Duration)
	// Up returns why it must not be asked: it does not answer. nil, or a nil error: it is asked.
	Up func() error
}

// Only returns one place for all topics.
func Only(rdb redis.UniversalClient, prefix string) map[string]Place {
	return map[string]Place{delay.DefaultStore: {Redis: rdb, Prefix: prefix}}
}

// place is a Place with its name.
type place struct {
	Place
	name string
}

func newPlaces(given map[string]Place) map[string]*place {
	all := make(map[string]*place, len(given))
	for name, one := range given {
		all[name] = &place{one, name}
	}
	return all
}

// at returns the place of a store, or a delay.StoreError: it does not answer, or this process does not know it.
func (s *Store) at(store string) (*place, error) {
	if store == "" {
		store = delay.DefaultStore
	}
	p, known := s.places[store]
	if !known {
		return nil, delay.StoreError{Store: store, Err: delay.ErrNoStore}
	}
	return p, p.down()
}

// down returns a delay.StoreError while the place does not answer.
func (p *place) down() error {
	if p.Up == nil {
		return nil
	}
	return p.failed(p.Up())
}

// failed names the store in an error; nil stays nil.
func (p *place) failed(err error) error {
	if err == nil {
		return nil
	}
	return delay.StoreError{Store: p.name, Err: err}
}

func (p *place) keysOf(sub delay.Subscription) keys { return subscriptionKeys(p.Prefix, sub) }

func (p *place) topicKeys(topic string) topicKeys { return keysOfTopic(p.Prefix, topic) }

// run calls a script.
func (p *place) run(ctx context.Context, s luascript.Script, keys []string, args ...any) ([]any, error) {
	reply, err := s.RunList(ctx, p.Redis, keys, args...)
	return reply, p.failed(err)
}

// durably calls a script and waits until its effect is on as many replicas as asked for. Where it is not, the error
// wraps delay.ErrNotReplicated, and the reply is that of the script, which has run. It writes the key noted even where
// the script wrote nothing: WAIT speaks of this connection's last write only, and the answer may repeat another's.
func (p *place) durably(ctx context.Context, noted string, s luascript.Script, keys []string, args ...any,
) ([]any, error) {
	if p.Acks == nil {
		return p.run(ctx, s, keys, args...)
	}
	n, limit := p.Acks()
	if n == 0 {
		return p.run(ctx, s, keys, args...)
	}
	node, err := p.node(ctx, noted)
	if err != nil {
		return nil, p.failed(err)
	}
	call := func() (reply, acknowledged *redis.Cmd) {
		pipe := node.Pipeline()
		reply = s.Queue(ctx, pipe, keys, args...)
		pipe.IncrBy(ctx, noted, 1)
		acknowledged = pipe.Do(ctx, "WAIT", n, limit.Milliseconds())
		_, _ = pipe.Exec(ctx) // each command has its own error
		return reply, acknowledged
	}
	reply, acknowledged := call()
	if redis.HasErrorPrefix(reply.Err(), "NOSCRIPT") {
		if err := s.Install(ctx, node); err != nil {
			return nil, p.failed(s.Failed(err, keys))
		}
		reply, acknowledged = call()
	}
	value, err := reply.Result()
	answer, err := s.List(value, s.Failed(err, keys), keys)
	if err != nil {
		return nil, p.failed(err)
	}
	got, err := acknowledged.Int64()
	if err == nil && got < int64(n) {
		err = fmt.Errorf("%d of %d acknowledged within %s", got, n, limit)
	}
	if err != nil {
		return answer, p.failed(fmt.Errorf("%w: %w", delay.ErrNotReplicated, err))
	}
	return answer, nil
}

// node returns the one server that holds a key: WAIT names no key, so a cluster client would send it anywhere.
func (p *place) node(ctx context.Context, key string) (redis.UniversalClient, error) {
	cluster, ok := p.Redis.(*redis.ClusterClient)
	if !ok {
		return p.Redis, nil
	}
	master, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("find the master of %s: %w", key, err)
	}
	return master, nil
}

// group is the subscriptions at one place, by their places in a list.
type group struct {
	at  *place
	err error // why the place cannot be asked
	of  []int
}

// byPlace groups subscriptions by the place of their messages.
func (s *Store) byPlace(subs []delay.Subscription) []*group {
	var groups []*group
	known := map[string]*group{}
	for i, sub := range subs {
		g := known[sub.Store]
		if g == nil {
			g = &group{}
			g.at, g.err = s.at(sub.Store)
			known[sub.Store], groups = g, append(groups, g)
		}
		g.of = append(g.of, i)
	}
	return groups
}

// eachPlace calls ask for every place of subscriptions, all at the same time: one that hangs delays no other. Where a
// place cannot be asked it calls fail for each of its subscriptions.
func (s *Store) eachPlace(subs []delay.Subscription, ask func(at *place, of []int), fail func(i int, err error)) {
	groups := s.byPlace(subs)
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, g := range groups {
		switch {
		case g.err != nil:
			for _, i := range g.of {
				fail(i, g.err)
			}
		case len(groups) == 1:
			ask(g.at, g.of)
		default:
			asking.Go(func() {
				if err := apart.Try(func() error { ask(g.at, g.of); return nil }); err != nil {
					for _, i := range g.of {
						fail(i, err)
					}
				}
			})
		}
	}
}

// refused reports whether a call has an answer, and it is an error.
func refused(err error) bool {
	_, answered := errors.AsType[redis.Error](err)
	return answered
}
