package message

import (
	"context"
	"time"

	"sluice/store/redis"
)

// SoonDue is how soon a message must be due for Listen to tell of it.
const SoonDue = 1500 * time.Millisecond

func (s *Store) soonChannel() string { return s.prefix + ":due" }

// Listen calls each with the topic of messages that were added and are due soon, before all that wait, until ctx ends.
// What is told while there is no connection is lost.
func (s *Store) Listen(ctx context.Context, each func(topic string)) {
	redis.Listen(ctx, s.rdb, s.soonChannel(), each)
}
