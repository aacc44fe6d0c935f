package message

import (
	"context"
	"sync"
	"time"

	"sluice/store/redis"
)

// SoonDue is how soon a message must be due for Listen to tell of it.
const SoonDue = 1500 * time.Millisecond

func (p *place) soonChannel() string { return p.Prefix + ":due" }

// Listen calls each with the topic of messages that were added and are due soon, before all that wait, until ctx ends.
// What is told while there is no connection is lost. each may be called for several stores at a time.
func (s *Store) Listen(ctx context.Context, each func(topic string)) {
	var listening sync.WaitGroup
	defer listening.Wait()
	for _, at := range s.places {
		listening.Go(func() { redis.Listen(ctx, at.Redis, at.soonChannel(), each) })
	}
}
