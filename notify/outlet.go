package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// sender delivers single messages: what differs between e-mail, SMS and webhook. send is called by many goroutines and returns
// soon after ctx ends.
type sender interface {
	name() string
	// reaches says why the recipient cannot be told, "" if they can.
	reaches(Recipient) (unable string)
	// latest says that it tells shoppers, who want to know how things stand: see Latest.
	latest() bool
	send(ctx context.Context, m Message, to Recipient) Result
	close()
}

// Outlet makes a channel of a sender. Deliveries run in an ants pool of their own, keep to a rate, and stop for a while when the
// receiver as a whole fails: what cannot be sent then is handed back and loses no attempt.
type Outlet struct {
	cfg     OutletConfig
	sender  sender
	lookup  Recipients
	log     *slog.Logger
	pool    *ants.PoolWithFuncGeneric[errand]
	limit   *rate.Limiter
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	opened  atomic.Int64 // when the breaker last did, unix ns on this machine, as the breaker counts
}

// errand is one message on its way through the pool.
type errand struct {
	ctx    context.Context
	m      Message
	to     Recipient
	result *Result
	done   *sync.WaitGroup
}

const (
	lookupPause = 5 * time.Second // before messages are tried again whose orders could not be looked up
)

func newOutlet(cfg OutletConfig, s sender, lookup Recipients, log *slog.Logger) (*Outlet, error) {
	o := &Outlet{cfg: cfg, sender: s, lookup: lookup, log: log.With("channel", s.name()), limit: rate.NewLimiter(rate.Inf, 1)}
	o.SetRate(cfg.Rate)
	o.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: s.name(), Timeout: cfg.Pause,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int64(c.ConsecutiveFailures) >= int64(cfg.Failures) },
		OnStateChange: o.tell,
	})
	var err error
	if o.pool, err = ants.NewPoolWithFuncGeneric(cfg.Workers, o.run, ants.WithLogger(poolLog{log})); err != nil {
		return nil, fmt.Errorf("open the pool of channel %s: %w", s.name(), err)
	}
	return o, nil
}

// Name is "email", "sms" or "webhook".
func (o *Outlet) Name() string { return o.sender.name() }

// Latest implements Latest: e-mail and SMS are.
func (o *Outlet) Latest() bool { return o.sender.latest() }

// SetRate changes how many messages a second may go out; 0 lifts the limit. It may be called at any time.
func (o *Outlet) SetRate(perSecond float64) {
	limit := rate.Inf
	if perSecond > 0 {
		limit = rate.Limit(perSecond)
	}
	o.limit.SetLimit(limit)
	o.limit.SetBurst(max(1, int(perSecond/10))) // a tenth of a second: timers are too coarse for high rates one by one
}

// Pause is how long the channel still waits for a receiver that fails; 0 while it does not.
func (o *Outlet) Pause() time.Duration {
	if o.breaker.State() != gobreaker.StateOpen {
		return 0
	}
	return max(time.Until(time.Unix(0, o.opened.Load()).Add(o.cfg.Pause)), time.Millisecond)
}

// close waits for what is being sent and ends the pool and the sender's connections. Nothing may be delivered after it.
func (o *Outlet) close() error {
	err := o.pool.ReleaseTimeout(o.cfg.Timeout)
	o.sender.close()
	if err != nil {
		return fmt.Errorf("close channel %s: %w", o.Name(), err)
	}
	return nil
}

// Deliver sends the batch through the pool and returns when every message has its result.
func (o *Outlet) Deliver(ctx context.Context, batch []Message) []Result {
	results := make([]Result, len(batch))
	recipients, err := o.lookup(ctx, idsOf(batch))
	if err != nil {
		o.log.WarnContext(ctx, "notify: orders not looked up, their news waits", "count", len(batch), "error", err)
		for i := range results {
			results[i] = Hold(lookupPause, "the order could not be looked up")
		}
		return results
	}
	var done sync.WaitGroup
	for i, m := range batch {
		to, known := recipients[m.OrderID]
		if done, result := o.settled(m, to, known); done {
			results[i] = result
			continue
		}
		done.Add(1)
		if err := o.pool.Invoke(errand{ctx, m, to, &results[i], &done}); err != nil {
			results[i] = Hold(0, "the channel is closing")
			done.Done()
		}
	}
	done.Wait()
	return results
}

// settled reports whether a message is not to be sent, and what becomes of it.
func (o *Outlet) settled(m Message, to Recipient, known bool) (bool, Result) {
	if !known {
		return true, Skipped("the order is unknown")
	}
	if unable := o.sender.reaches(to); unable != "" {
		return true, Skipped(unable)
	}
	if why := to.overtook(m.Event); why != "" && o.Latest() {
		return true, Overtaken(why)
	}
	return false, Result{}
}

func (o *Outlet) run(e errand) {
	defer e.done.Done()
	defer func() {
		if p := recover(); p != nil {
			// The value may quote the message, and so an address: its type must do.
			o.log.ErrorContext(e.ctx, "notify: sending panicked", "order", e.m.OrderID, "event", e.m.Event, "panic", fmt.Sprintf("%T", p))
			*e.result = Retry("sending panicked")
		}
	}()
	*e.result = o.attempt(e)
}

// attempt sends one message when rate, time and breaker allow it. Time left to the batch that does not suffice for one send is
// not begun: a cut-off attempt would be counted although nobody is to blame.
func (o *Outlet) attempt(e errand) Result {
	ctx, cancel := e.ctx, context.CancelFunc(func() {})
	if deadline, ok := e.ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(e.ctx, deadline.Add(-o.cfg.Timeout))
	}
	defer cancel()
	if ctx.Err() != nil || o.limit.Wait(ctx) != nil {
		return Hold(0, "its turn did not come in time")
	}
	settle, err := o.breaker.Allow()
	switch {
	case errors.Is(err, gobreaker.ErrTooManyRequests):
		return Hold(0, "the receiver is being tried again")
	case err != nil:
		return Hold(o.cfg.Pause, "the receiver fails, the channel waits")
	}
	result := Retry("sending panicked")
	defer func() { settle(faultOf(result)) }()
	work, done := context.WithTimeout(e.ctx, o.cfg.Timeout)
	defer done()
	result = o.sender.send(work, e.m, e.to)
	return result
}

// errDown is what the breaker counts.
var errDown = errors.New("the receiver as a whole failed")

func faultOf(r Result) error {
	if r.down {
		return errDown
	}
	return nil
}

func (o *Outlet) tell(_ string, from, to gobreaker.State) {
	if to == gobreaker.StateOpen {
		o.opened.Store(time.Now().UnixNano())
	}
	switch {
	case to == gobreaker.StateOpen && from == gobreaker.StateClosed:
		o.log.Warn("notify: receiver fails, its channel waits", "pause", o.cfg.Pause)
	case to == gobreaker.StateClosed:
		o.log.Info("notify: receiver is back")
	}
}

func idsOf(batch []Message) []string {
	ids := make([]string, len(batch))
	for i, m := range batch {
		ids[i] = m.OrderID
	}
	return ids
}

// poolLog keeps ants from writing to the standard logger.
type poolLog struct{ log *slog.Logger }

func (l poolLog) Printf(format string, args ...any) {
	l.log.Error("notify: " + fmt.Sprintf(format, args...))
}
