package outbox

import (
	"context"
	"sync"

	"sluice/notify"
)

// Recorder is a channel that remembers its messages and returns the results of Answer.
type Recorder struct {
	name   string
	Answer func(notify.Message) notify.Result

	mu   sync.Mutex
	seen []notify.Message
}

// NewRecorder returns a channel of a name.
func NewRecorder(name string, answer func(notify.Message) notify.Result) *Recorder {
	return &Recorder{name: name, Answer: answer}
}

// Accept answers that a message is delivered.
func Accept(notify.Message) notify.Result { return notify.Delivered() }

// Name returns the channel's name.
func (c *Recorder) Name() string { return c.name }

// Deliver remembers messages and answers.
func (c *Recorder) Deliver(_ context.Context, messages []notify.Message) []notify.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]notify.Result, len(messages))
	for i, m := range messages {
		c.seen = append(c.seen, m)
		results[i] = c.Answer(m)
	}
	return results
}

// Messages returns what was delivered, in its order.
func (c *Recorder) Messages() []notify.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]notify.Message(nil), c.seen...)
}

// Orders returns the orders of what was delivered, in its order.
func (c *Recorder) Orders() []string {
	var orders []string
	for _, m := range c.Messages() {
		orders = append(orders, m.OrderID)
	}
	return orders
}

// Events returns what was delivered of one order, in its order.
func (c *Recorder) Events(order string) []string {
	var events []string
	for _, m := range c.Messages() {
		if m.OrderID == order {
			events = append(events, m.Event)
		}
	}
	return events
}

// Blocked is a channel whose deliveries wait for Release or for their context.
type Blocked struct {
	Entered chan struct{} // has one for each delivery that began
	Release chan struct{} // closed by the test

	name   string
	answer notify.Result
}

// NewBlocked returns a channel that gives one answer to all.
func NewBlocked(name string, answer notify.Result) *Blocked {
	return &Blocked{name: name, Entered: make(chan struct{}, 100), Release: make(chan struct{}), answer: answer}
}

// Name returns the channel's name.
func (c *Blocked) Name() string { return c.name }

// Deliver waits.
func (c *Blocked) Deliver(ctx context.Context, messages []notify.Message) []notify.Result {
	c.Entered <- struct{}{}
	result := c.answer
	select {
	case <-c.Release:
	case <-ctx.Done():
		result = notify.Retry(ctx.Err().Error())
	}
	results := make([]notify.Result, len(messages))
	for i := range results {
		results[i] = result
	}
	return results
}
