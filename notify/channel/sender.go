package channel

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/ants/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"sluice/notify"
)

// transport sends single messages by e-mail, SMS or webhook. send is called by many goroutines and returns soon after
// ctx ends.
type transport interface {
	name() string
	// reaches says why the recipient cannot be reached, or "" if they can.
	reaches(notify.Recipient) (unable string)
	// latest reports whether messages go to shoppers, who need only the newest: see notify.Latest.
	latest() bool
	send(ctx context.Context, m notify.Message, to notify.Recipient) notify.Result
	close()
}

// Sender is a channel that sends through a transport, with a pool, a rate and a circuit breaker. The breaker stops
// deliveries for a while when the receiver fails as a whole. So does a receiver that asks for a wait. Unsent messages
// are then handed back without counting an attempt.
type Sender struct {
	cfg       SenderConfig
	transport transport
	lookUp    notify.Recipients
	log       *slog.Logger
	pool      *ants.PoolWithFuncGeneric[sendJob]
	limit     *rate.Limiter
	breaker   *gobreaker.TwoStepCircuitBreaker[struct{}]
	waiting   atomic.Int64 // messages that no worker has begun
	openedAt  atomic.Int64 // when the breaker last opened, unix ns by the machine's clock, as the breaker uses it
	restUntil atomic.Int64 // until when the receiver asked to be left alone, unix ns by the machine's clock

	mu      sync.Mutex
	changed chan struct{} // closed when the breaker's state changes
}

// sendJob is one message on its way through the pool.
type sendJob struct {
	ctx    context.Context
	what   string // for the log
	send   func(context.Context) notify.Result
	report func(notify.Result)
}

// lookUpPause is the wait of messages whose orders could not be looked up.
const lookUpPause = 5 * time.Second

func newSender(cfg SenderConfig, t transport, lookUp notify.Recipients, log *slog.Logger) (*Sender, error) {
	s := &Sender{cfg: cfg, transport: t, lookUp: lookUp, log: log.With("channel", t.name()),
		limit: rate.NewLimiter(rate.Inf, 1), changed: make(chan struct{})}
	s.SetRate(cfg.Rate)
	s.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: t.name(), Timeout: cfg.Pause,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int64(c.ConsecutiveFailures) >= int64(cfg.Failures) },
		OnStateChange: s.breakerChanged,
	})
	var err error
	if s.pool, err = ants.NewPoolWithFuncGeneric(cfg.Workers, s.run, ants.WithLogger(poolLog{log})); err != nil {
		return nil, fmt.Errorf("open the pool of channel %s: %w", t.name(), err)
	}
	return s, nil
}

// Name returns "email", "sms" or "webhook".
func (s *Sender) Name() string { return s.transport.name() }

// Latest implements notify.Latest. E-mail and SMS return true.
func (s *Sender) Latest() bool { return s.transport.latest() }

// SetRate changes how many messages a second may go out; 0 removes the limit. Safe for concurrent use.
func (s *Sender) SetRate(perSecond float64) {
	limit := rate.Inf
	if perSecond > 0 {
		limit = rate.Limit(perSecond)
	}
	s.limit.SetLimit(limit)
	// The messages of 0.1 s may go at once, because timers are too coarse for high rates.
	s.limit.SetBurst(max(1, int(perSecond/10)))
}

// Pause returns how long the channel still waits for a receiver that failed or asked for a wait, or 0.
func (s *Sender) Pause() time.Duration {
	rest := max(time.Until(time.Unix(0, s.restUntil.Load())), 0)
	if s.breaker.State() != gobreaker.StateOpen {
		return rest
	}
	return max(rest, time.Until(time.Unix(0, s.openedAt.Load()).Add(s.cfg.Pause)), time.Millisecond)
}

// Workers implements notify.Flowing.
func (s *Sender) Workers() int { return s.cfg.Workers }

// Room implements notify.Flowing. It counts the messages whose turn comes in time by the rate.
func (s *Sender) Room(within time.Duration) int {
	perSecond := s.limit.Limit()
	if perSecond == rate.Inf {
		return math.MaxInt32
	}
	// A tenth is left for the way to a worker: a message that comes too late is handed back.
	turns := s.limit.Tokens() + float64(perSecond)*0.9*(within-s.cfg.Timeout).Seconds()
	return int(min(turns, math.MaxInt32)) - int(s.waiting.Load())
}

// close waits for sends in progress and closes the pool and the transport. Nothing may be delivered after it.
func (s *Sender) close() error {
	err := s.pool.ReleaseTimeout(s.cfg.Timeout)
	s.transport.close()
	if err != nil {
		return fmt.Errorf("close channel %s: %w", s.Name(), err)
	}
	return nil
}

// Deliver sends the batch through the pool and returns when every message has its result.
func (s *Sender) Deliver(ctx context.Context, batch []notify.Message) []notify.Result {
	results := make([]notify.Result, len(batch))
	var done sync.WaitGroup
	done.Add(len(batch))
	s.Begin(ctx, batch, func(place int, r notify.Result) {
		results[place] = r
		done.Done()
	})()
	done.Wait()
	return results
}

// Begin implements notify.Flowing. It looks up the recipients and reports what is not to be sent.
func (s *Sender) Begin(ctx context.Context, batch []notify.Message, report func(int, notify.Result)) (send func()) {
	recipients, err := s.lookUp(ctx, orderIDs(batch))
	if err != nil {
		s.log.WarnContext(ctx, "notify: orders not looked up, their messages wait", "count", len(batch), "error", err)
		for i := range batch {
			report(i, notify.Hold(lookUpPause, "the order could not be looked up"))
		}
		return func() {}
	}
	var jobs []sendJob
	for i, m := range batch {
		to, found := recipients[m.OrderID]
		if ended, result := s.endUnsent(m, to, found); ended {
			report(i, result)
			continue
		}
		jobs = append(jobs, sendJob{ctx: ctx, what: m.ID(),
			send:   func(ctx context.Context) notify.Result { return s.transport.send(ctx, m, to) },
			report: func(r notify.Result) { report(i, r) }})
	}
	s.waiting.Add(int64(len(jobs)))
	return func() {
		for _, j := range jobs {
			if err := s.pool.Invoke(j); err != nil {
				s.waiting.Add(-1)
				j.report(notify.Hold(0, "the channel is closing"))
			}
		}
	}
}

// endUnsent reports whether a message ends without being sent, and with which result.
func (s *Sender) endUnsent(m notify.Message, to notify.Recipient, found bool) (bool, notify.Result) {
	if !found {
		return true, notify.Skipped("the order is unknown")
	}
	if unable := s.transport.reaches(to); unable != "" {
		return true, notify.Skipped(unable)
	}
	if why := to.Overtook(m.Event); why != "" && s.Latest() {
		return true, notify.Overtaken(why)
	}
	return false, notify.Result{}
}

func orderIDs(batch []notify.Message) []string {
	ids := make([]string, len(batch))
	for i, m := range batch {
		ids[i] = m.OrderID
	}
	return ids
}

// poolLog passes what the ants pool logs to log, instead of the standard logger.
type poolLog struct{ log *slog.Logger }

func (l poolLog) Printf(format string, args ...any) {
	l.log.Error("notify: " + fmt.Sprintf(format, args...))
}
