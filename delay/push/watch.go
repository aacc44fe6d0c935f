package push

import (
	"sync"
	"time"

	"sluice/delay"
	"sluice/delay/message"
)

// idleLook lies between two looks at a subscription that has nothing due before. Whoever adds something that is due
// sooner says so: see message.Store.Listen. It must be shorter than message.SoonDue.
const idleLook = time.Second

// watch knows when each subscription is to be looked at again. Subscriptions that are idle are looked at together, so
// that many cost little. Safe for concurrent use.
type watch struct {
	now  func() time.Time
	wake chan struct{} // holds one: something is to be looked at sooner

	mu sync.Mutex
	of map[string]look // by subscription
}

type look struct {
	topic string
	at    time.Time
	idle  bool // nothing was there at the last look
	told  bool // something was said of it since it was last due: what that look found is older
}

func newWatch(now func() time.Time) *watch {
	return &watch{now: now, wake: make(chan struct{}, 1), of: map[string]look{}}
}

// due returns those of the subscriptions that are to be looked at now. Each counts as looked at: unless its look says
// otherwise, the next is after again. All others are forgotten, so one that comes back is looked at at once.
func (w *watch) due(subs []delay.Subscription, again time.Duration) []delay.Subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, kept := w.now(), make(map[string]look, len(subs))
	var due []delay.Subscription
	for _, sub := range subs {
		one, known := w.of[sub.Name]
		if !known || !now.Before(one.at) {
			due = append(due, sub)
			one = look{topic: sub.Topic, at: now.Add(again), idle: one.idle}
		}
		kept[sub.Name] = one
	}
	w.of = kept
	return due
}

// next sets how long after now a subscription is to be looked at again, unless it was said meanwhile.
func (w *watch) next(name string, wait time.Duration, idle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one, known := w.of[name]; known && !one.told {
		w.of[name] = look{topic: one.topic, at: w.now().Add(min(wait, idleLook)), idle: idle}
	}
}

// soon lets a subscription be looked at after wait, if not before.
func (w *watch) soon(name string, wait time.Duration) {
	w.mu.Lock()
	if one, known := w.of[name]; known {
		w.hasten(name, one, w.now().Add(wait))
	}
	w.mu.Unlock()
	w.signal()
}

// added lets all subscriptions of a topic be looked at now.
func (w *watch) added(topic string) {
	w.mu.Lock()
	for name, one := range w.of {
		if one.topic == topic {
			w.hasten(name, one, w.now())
		}
	}
	w.mu.Unlock()
	w.signal()
}

func (w *watch) hasten(name string, one look, at time.Time) {
	if at.Before(one.at) {
		one.at = at
	}
	one.idle, one.told = false, true
	w.of[name] = one
}

func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// wait returns the time until the next look, at most most.
func (w *watch) wait(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	for _, one := range w.of {
		most = min(most, one.at.Sub(now))
	}
	return max(most, message.ClaimPause)
}

// isIdle reports whether nothing was there when a subscription was last looked at.
func (w *watch) isIdle(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.of[name].idle
}
