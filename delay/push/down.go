package push

import (
	"context"

	"sluice/delay"
)

// DownReport tells of a receiver that failed again when it was tried after a pause.
type DownReport struct {
	Subscription delay.Subscription
	Error        string // of the last call
}

// OnDown is called once for each time that a receiver fails for long. It must not block.
type OnDown func(ctx context.Context, r DownReport)

// watchReceiver shows whether a subscription's receiver is left alone, here and to other processes. It tells of one
// that fails for long.
func (d *Dispatcher) watchReceiver(ctx context.Context, sub delay.Subscription) error {
	pause, lasting := d.pauseOf(sub)
	left := max(pause.Until.Sub(d.now()).Seconds(), 0)
	if !pause.Until.IsZero() {
		left = max(left, 0.001) // it is being tried
	}
	d.metrics.paused.WithLabelValues(sub.Topic, sub.Name).Set(left)
	shown, told := d.receivers.noteShown(sub.Name, !pause.Until.IsZero(), lasting)
	if told {
		d.log.WarnContext(ctx, "a receiver fails, its messages wait", "subscription", sub.Name, "error", pause.Why)
		if d.onDown != nil {
			d.onDown(ctx, DownReport{Subscription: sub, Error: pause.Why})
		}
	}
	if pause.Until.IsZero() && !shown {
		return nil
	}
	return d.messages.TellPause(ctx, sub, pause)
}

// noteShown takes in whether a receiver is left alone. It returns whether it was shown so before, and whether
// operators must hear of it now.
func (rs *receivers) noteShown(name string, alone, lasting bool) (before, tell bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	was := rs.shown[name]
	is := shownState{alone: alone, told: alone && (was.told || lasting)}
	if rs.shown[name] = is; !alone {
		delete(rs.shown, name)
	}
	return was.alone, is.told && !was.told
}

// shownState is what others were told of a receiver.
type shownState struct{ alone, told bool }
