package pull

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/apart"
)

// waiting looks for due messages for all readers of a process that wait. It looks only while somebody waits.
type waiting struct {
	topics   *delay.Topics
	messages *message.Store
	poll     time.Duration // between two looks, at most
	deserted chan struct{} // holds one: nobody waits any more

	mu      sync.Mutex
	of      map[string][]*waiter // by subscription, who waits longest first
	looking bool
}

// waiter is one reader that waits.
type waiter struct {
	name string
	wake chan struct{} // holds one: something may be due
}

func newWaiting(topics *delay.Topics, messages *message.Store, poll time.Duration) *waiting {
	return &waiting{topics: topics, messages: messages, poll: poll, deserted: make(chan struct{}, 1),
		of: map[string][]*waiter{}}
}

// join adds a reader to those that wait, and begins to look.
func (w *waiting) join(name string) *waiter {
	one := &waiter{name: name, wake: make(chan struct{}, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of[name] = append(w.of[name], one)
	if !w.looking {
		w.looking = true
		go w.look()
	}
	return one
}

// leave ends a wait. Doing it again changes nothing.
func (w *waiting) leave(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := slices.DeleteFunc(w.of[one.name], func(other *waiter) bool { return other == one })
	if w.of[one.name] = rest; len(rest) == 0 {
		delete(w.of, one.name)
	}
	if len(w.of) > 0 {
		return
	}
	select {
	case w.deserted <- struct{}{}:
	default:
	}
}

// wakeFirst wakes who waits longest for a subscription.
func (w *waiting) wakeFirst(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if list := w.of[name]; len(list) > 0 {
		list[0].signal()
	}
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// wanted returns the subscriptions that somebody waits for. Who waits for one that is gone is woken to hear of it. When
// nobody waits it ends the look.
func (w *waiting) wanted() (subs []delay.Subscription, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.topics.Snapshot()
	for name, list := range w.of {
		sub, exists := known.Subscription(name)
		if exists && sub.On() {
			subs = append(subs, sub)
		}
		for _, one := range list {
			if !exists {
				one.signal()
			}
		}
	}
	w.looking = len(w.of) > 0
	return subs, w.looking
}

// look wakes readers when something is due, until none waits. Each server has its own rounds: one that hangs holds up
// no other.
func (w *waiting) look() {
	rounds := apart.New(message.ClaimServers, message.ClaimPatience)
	defer rounds.Wait()
	for {
		subs, more := w.wanted()
		if !more {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), message.ClaimTimeout)
		next := message.NewShortestWait(w.poll)
		on := w.messages.ByServer(ctx, subs)
		rounds.Round(ctx, slices.Sorted(maps.Keys(on)), func(ctx context.Context, server string) error {
			next.Take(w.lookOn(ctx, on[server]))
			return nil
		}, func(string, error) {}) // whoever waits is woken by its own claim's error
		cancel()
		w.rest(next.Get())
	}
}

// rest waits until the next look, or until nobody waits.
func (w *waiting) rest(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.deserted:
	}
}

// lookOn wakes one reader of each subscription of a server that has something due. It also wakes one of what cannot
// be looked at: then its own claim says why. It returns when the next is due.
func (w *waiting) lookOn(ctx context.Context, subs []delay.Subscription) time.Duration {
	wait := w.poll
	for _, found := range w.messages.FirstDue(ctx, subs) {
		switch {
		case found.Err != nil:
			w.wakeFirst(found.Subscription.Name)
		case found.None:
		case found.Wait > 0:
			wait = min(wait, max(found.Wait, message.ClaimPause))
		default:
			w.wakeFirst(found.Subscription.Name)
		}
	}
	return wait
}
