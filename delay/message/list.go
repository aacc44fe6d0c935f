package message

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"sluice/delay"
	"sluice/internal/invalid"
)

// The states that a list is filtered by.
const (
	ListWaiting   = "waiting"   // pending, retrying
	ListRunning   = "running"   // firing
	ListFailed    = "failed"    // dead, dropped
	ListComplete  = "complete"  // delivered
	ListCancelled = "cancelled" // cancelled
)

// ListStates returns the states that a list can be filtered by.
func ListStates() []string {
	return []string{ListWaiting, ListRunning, ListFailed, ListComplete, ListCancelled}
}

const (
	maxListed  = 1000   // messages of a page
	maxScanned = 10_000 // finished messages that are looked at for one page
)

// Listing asks for a page of a subscription's messages.
type Listing struct {
	State string // one of ListStates
	Skip  int64  // where the page before said that the next begins; 0: the first
	Limit int
}

// ListPage is a page of messages. Waiting and running ones come by when they are due, the others newest first.
type ListPage struct {
	Messages []delay.Message
	Next     int64 // Skip of the next page; 0: this is the last
}

// List returns messages of a subscription in a state. Those that change meanwhile may be missing or come twice. A page
// of finished ones may be short while there are more: those of other states lie between them.
func (s *Store) List(ctx context.Context, sub delay.Subscription, l Listing) (ListPage, error) {
	if !slices.Contains(ListStates(), l.State) {
		return ListPage{}, invalid.Error{{Field: "state", Detail: fmt.Sprintf("must be one of %v", ListStates())}}
	}
	l.Limit = min(max(l.Limit, 1), maxListed)
	at, err := s.at(sub.Store)
	if err != nil {
		return ListPage{}, err
	}
	k := at.keysOf(sub)
	switch l.State {
	case ListWaiting:
		return s.listSet(ctx, sub, at.Redis.ZRange(ctx, k.due, l.Skip, l.Skip+int64(l.Limit)), l)
	case ListRunning:
		return s.listSet(ctx, sub, at.Redis.ZRange(ctx, k.firing, l.Skip, l.Skip+int64(l.Limit)), l)
	case ListComplete:
		return s.listDone(ctx, sub, l, 0, delay.Delivered)
	case ListCancelled:
		return s.listDone(ctx, sub, l, 0, delay.Cancelled)
	}
	dead, err := at.Redis.ZCard(ctx, k.dead).Result()
	if err != nil {
		return ListPage{}, fmt.Errorf("list messages of %s: %w", sub.Title(), at.failed(err))
	}
	if l.Skip >= dead {
		return s.listDone(ctx, sub, l, dead, delay.Dropped)
	}
	page, err := s.listSet(ctx, sub, at.Redis.ZRevRange(ctx, k.dead, l.Skip, l.Skip+int64(l.Limit)), l)
	if err == nil && page.Next == 0 {
		page.Next = dead // the dropped ones follow
	}
	return page, err
}

// listSet reads one id more than a page holds: it says whether there is another page.
func (s *Store) listSet(ctx context.Context, sub delay.Subscription, ids *redis.StringSliceCmd, l Listing,
) (ListPage, error) {
	found, err := ids.Result()
	if err != nil {
		return ListPage{}, fmt.Errorf("list messages of %s: %w", sub.Title(), err)
	}
	if len(found) == 0 {
		return ListPage{}, nil
	}
	var page ListPage
	if len(found) > l.Limit {
		found, page.Next = found[:l.Limit], l.Skip+int64(l.Limit)
	}
	page.Messages, err = s.show(ctx, sub, found)
	return page, err
}

// listDone looks through the finished messages for those in a state. They begin at place before of the listing.
func (s *Store) listDone(ctx context.Context, sub delay.Subscription, l Listing, before int64, state string,
) (ListPage, error) {
	var page ListPage
	at, err := s.at(sub.Store)
	if err != nil {
		return page, err
	}
	for from := l.Skip - before; from < l.Skip-before+maxScanned; from += maxListed {
		ids, err := at.Redis.LRange(ctx, at.keysOf(sub).done, from, from+maxListed-1).Result()
		if err != nil || len(ids) == 0 {
			page.Next = 0
			return page, at.failed(err)
		}
		messages, err := s.show(ctx, sub, ids)
		if err != nil {
			return page, err
		}
		for _, m := range messages {
			if m.State != state {
				continue
			}
			if page.Messages = append(page.Messages, m); len(page.Messages) == l.Limit {
				page.Next = before + from + int64(slices.Index(ids, m.ID)) + 1
				return page, nil
			}
		}
		page.Next = before + from + maxListed
	}
	return page, nil
}
