package push

import (
	"context"
	"time"

	"sluice/delay"
	"sluice/delay/message"
	"sluice/internal/pattern"
	"sluice/notify"
)

// Channel sends the messages of a topic to people, where others call a receiver. It has workers, a rate and a breaker
// of its own, which it shares with news of orders. Safe for concurrent use.
type Channel interface {
	// Workers is how many messages are sent at once.
	Workers() int
	// Room is how many more messages could be begun within a time.
	Room(within time.Duration) int
	// Pause is how much longer the channel leaves its provider alone; 0: it sends.
	Pause() time.Duration
	// SendBody sends one message; id is the same at every try. It returns soon after ctx ends.
	SendBody(ctx context.Context, id string, body []byte) notify.Result
}

// channelOf returns the channel that sends a subscription's messages. It is nil where a receiver is called, or the
// channel is off in this process.
func (d *Dispatcher) channelOf(sub delay.Subscription) Channel {
	if sub.Kind != delay.Channel {
		return nil
	}
	return d.channels[sub.Topic]
}

// delivered reports whether this process delivers a subscription's messages.
func (d *Dispatcher) delivered(sub delay.Subscription) bool {
	return sub.On() && pattern.Match(d.cfg.Topics, sub.Topic) && (sub.Kind == delay.Push || d.channelOf(sub) != nil)
}

// room returns how many messages of a subscription may be claimed, and how many it may have at a time.
func (d *Dispatcher) room(sub delay.Subscription) (most, limit int) {
	c := d.channelOf(sub)
	switch {
	case c == nil:
		return d.cfg.Batch, d.receivers.get(sub).limit()
	case c.Pause() > 0:
		return 0, 0
	}
	return min(d.cfg.Batch, max(c.Room(message.ChannelTime), 0)), 2 * c.Workers() // one each is ready to be sent
}

// pauseOf returns for how long the receiver or the channel of a subscription is left alone, and why.
func (d *Dispatcher) pauseOf(sub delay.Subscription) (p message.Pause, lasting bool) {
	c := d.channelOf(sub)
	if c == nil {
		return d.receivers.get(sub).leftAlone()
	}
	if left := c.Pause(); left > 0 {
		p = message.Pause{Until: d.now().Add(left), Why: "the channel leaves its provider alone"}
	}
	return p, false
}

// send sends one message by a channel and says what to do with it.
func (d *Dispatcher) send(ctx context.Context, c Channel, t *target, m message.Claimed) message.Outcome {
	work, cancel := context.WithTimeout(ctx, message.ChannelTime)
	defer cancel()
	r := c.SendBody(work, t.Topic+":"+m.ID, m.Body)
	switch wait, held := r.HeldFor(); {
	case r.IsDelivered() || r.IsSkipped():
		return m.Delivered()
	case ctx.Err() != nil:
		return m.Back()
	case held:
		return m.PutOff(max(wait, message.ClaimPause), r.Failure())
	case r.IsPermanent():
		return m.Dead(r.Failure())
	}
	if wait, off := r.PutOffFor(); off {
		return m.PutOff(wait, r.Failure())
	}
	return d.caller.failedOutcome(t, m, 0, errorText(r.Failure()))
}

type errorText string

func (e errorText) Error() string { return string(e) }
